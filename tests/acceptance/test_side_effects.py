"""Side effects that should happen once, and jobs enqueued by jobs, through real deaths."""

from pathlib import Path

import pytest

from tests.support.supervising import Jobs


@pytest.fixture(scope="module")
def supervisor(start_for_module):
    modules = ["tests.support.mailing"]
    return start_for_module(pool={"modules": modules, "workers": 2})


@pytest.fixture
def jobs(module_jobs: Jobs) -> Jobs:
    return module_jobs


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def mail(ledger: Path, **more) -> dict:
    return {"ledger": str(ledger), "key": str(ledger), **more}


def sent(ledger: Path) -> int:
    return len(ledger.read_text().splitlines())


@pytest.mark.parametrize(
    ("more", "mails", "told"),
    [
        ({}, 1, True),
        ({"behind": "dies"}, 1, False),
        ({"behind": "fails"}, 1, False),
        ({"inside": "fails"}, 2, True),
        ({"inside": "dies"}, 2, True),
        ({"inside": "dies", "at_most": True}, 1, False),
    ],
    ids=["well", "dies afterwards", "fails afterwards", "fails inside", "dies inside", "dies inside, at most once"],
)
def test_a_side_effect_happens_once_as_far_as_anybody_can_know(supervisor, jobs: Jobs, ledger: Path, more, mails, told):
    job = jobs.run("mails", mail(ledger, **more))
    assert (job["status"], job["result"], sent(ledger)) == ("completed", {"sent": told}, mails)
    again = jobs.run("mails", mail(ledger))
    assert again["result"] == {"sent": more.get("at_most", False)}


def test_two_jobs_under_one_key_wait_for_each_other(supervisor, jobs: Jobs, ledger: Path):
    both = [jobs.insert("mails", mail(ledger, seconds=0.5)) for _ in range(2)]
    ended = [jobs.wait(job_id) for job_id in both]
    assert sorted(job["result"]["sent"] for job in ended) == [False, True]
    assert sent(ledger) == 1


@pytest.mark.parametrize("how", ["dies", "fails"])
def test_what_a_job_enqueues_under_a_key_is_enqueued_once_whatever_becomes_of_its_attempts(
    supervisor, jobs: Jobs, ledger: Path, how
):
    wanted = [mail(ledger, key=f"{ledger}-{number}") for number in range(3)]
    parent = jobs.run("fans_out", {"mails": wanted, "behind": how})
    assert (parent["status"], parent["attempt"]) == ("completed", 2)
    for job_id in parent["result"]["enqueued"]:
        assert jobs.wait(job_id)["result"] == {"sent": True}
    assert jobs.collection.count_documents({"payload.ledger": str(ledger)}) == 3
    assert sent(ledger) == 3


def test_what_cannot_run_is_refused_to_the_job_that_enqueues_it(supervisor, jobs: Jobs):
    parent = jobs.run("fans_out", {"mails": [], "handler": "nope"}, max_attempts=1)
    assert parent["error"]["type"] == "UnknownHandlerError"
    assert parent["error"]["message"].startswith("unknown handler 'nope'; registered: ")
