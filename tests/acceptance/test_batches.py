"""Batches from the command line, with a real supervisor, also one that is killed."""

import json
from datetime import UTC, datetime

from tests.support.failpoints import failing
from tests.support.supervising import Jobs
from tests.support.until import until


def test_a_batch_is_enqueued_and_waited_for(command, jobs: Jobs, start):
    start()
    lines = '{"payload": {"n": 1}}\n\n{"payload": {"n": 2}}\n{"handler": "ok"}\n'
    command.folder.joinpath("jobs.jsonl").write_text(lines)
    done = command("enqueue", "double", "--batch", "jobs.jsonl", "--on-end", "noop", "--wait")
    assert (done.code, done.out, done.err) == (0, "all 3 jobs completed\n", "")
    handlers = sorted(job["handler"] for job in jobs.collection.find({"batch_id": {"$exists": True}}))
    assert handlers == ["double", "double", "ok"]
    until(lambda: jobs.collection.count_documents({"handler": "noop", "status": "completed"}) == 1, 20)


def test_a_batch_that_fails_says_how_many_and_where_to_look(command, jobs: Jobs, start):
    start()
    lines = '{"handler": "permanent"}\n{"handler": "ok"}\n'
    done = command("enqueue", "--batch", "-", "--wait", "--json", stdin=lines)
    assert done.code == 1
    (batch_id,) = {str(job["batch_id"]) for job in jobs.collection.find()}
    hint = f"see: python -m supervisor jobs --batch {batch_id} --status failed"
    assert done.error == f"of 2 jobs of batch {batch_id}, 1 completed, 1 failed; {hint}"
    assert (done.json["status"], done.json["processed_items"], done.json["counts"]["failed"]) == ("failed", 2, 1)


def test_a_job_that_is_wrong_is_named_by_its_line_and_nothing_is_enqueued(command, jobs: Jobs):
    lines = '\n{"handler": "ok"}\n\n{"handler": "double", "payload": {"n": "x"}}\n'
    done = command("enqueue", "--batch", "-", stdin=lines)
    assert done.code == 2
    assert done.error.startswith("--batch: line 4: payload of 'double': n: ")
    assert jobs.collection.count_documents({}) == 0


def test_the_lines_of_a_file_may_hold_times_and_all_of_unicode(command, jobs: Jobs):
    text = "all that ends a line elsewhere: \u2028 \u0085 \x0b"
    lines = [
        {"payload": {"text": text}, "run_at": "2100-01-01T00:00:00+01:00"},
        {"payload": {"text": text}, "run_at": {"$date": "2099-12-31T23:00:00Z"}},
    ]
    # a vertical tab has to be escaped
    written = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert command("enqueue", "ok", "--batch", "-", stdin=written).code == 0
    found = list(jobs.collection.find())
    assert {job["run_at"] for job in found} == {datetime(2099, 12, 31, 23, tzinfo=UTC)}
    assert [job["payload"]["text"] for job in found] == [text] * 2
    done = command("enqueue", "ok", "--batch", "-", stdin='\n{"run_at": "soon"}')
    assert (
        done.error == "--batch: line 2: run_at: 'soon' is not a time such as 2026-03-01T18:30 or 2026-03-01T18:30+01:00"
    )
    assert done.code == 2


def test_waiting_for_a_batch_sits_out_a_database_that_does_not_answer(command, jobs: Jobs, mongod):
    waiting = command.start("enqueue", "ok", "--batch", "-", "--wait")
    waiting.stdin.write('{"payload": {}}\n')
    waiting.stdin.close()
    batches = jobs.collection.database["batches"]
    until(lambda: batches.find_one({"open": False}), 30, "the batch to be enqueued")
    with failing(mongod, ["aggregate"], errorCode=96, namespace=batches.full_name) as point:
        point.wait(25, count=2)
    jobs.collection.update_one({}, {"$set": {"status": "completed", "finished_at": datetime.now(UTC)}})
    assert waiting.wait(60) == 0
    assert waiting.stdout.read() == "all 1 jobs completed\n"
    waiting.stdout.close()
    waiting.stderr.close()


def test_the_end_of_a_batch_survives_the_death_of_who_ran_its_last_job(command, jobs: Jobs, start):
    first = start()
    done = command(
        "enqueue", "--batch", "-", "--on-end", "ok", stdin='{"handler": "sleeps", "payload": {"seconds": 60}}'
    )
    job = jobs.collection.find_one({"handler": "sleeps"})
    assert done.out.strip() == str(job["batch_id"])
    jobs.wait(job["_id"], "processing")
    first.kill()
    # as if it had been killed right after the record of the last job, and before the end of the batch
    jobs.collection.update_one({}, {"$set": {"status": "completed"}, "$unset": {"lease": ""}})
    start()
    until(lambda: jobs.collection.count_documents({"handler": "ok"}) == 1, 40, "the job at the end")
    batch = jobs.collection.database["batches"].find_one({})
    until(lambda: jobs.collection.database["batches"].find_one({}).get("ended_at"), 20, "the end of the batch")
    assert jobs.collection.find_one({"handler": "ok"})["payload"] == {"batch_id": batch["_id"]}
