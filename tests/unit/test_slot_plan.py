"""The desired number of slots against what is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.slots import SlotPlan, SlotState, plan_slots, start_delay

STARTING, IDLE, BUSY, STOPPING, BACKOFF = SlotState
STAYS, LEAVES = False, True


def slots(*states, retiring=STAYS):
    """Number the states from 0."""
    return {index: (state, retiring) for index, state in enumerate(states)}


@pytest.mark.parametrize(
    ("desired", "there", "plan"),
    [
        pytest.param(0, {}, SlotPlan(), id="nothing of nothing"),
        pytest.param(3, {}, SlotPlan(open=(0, 1, 2)), id="the first start"),
        pytest.param(2, slots(IDLE, BUSY), SlotPlan(), id="as desired"),
        pytest.param(4, slots(IDLE, BUSY), SlotPlan(open=(2, 3)), id="grow"),
        pytest.param(3, {1: (IDLE, STAYS), 3: (BUSY, STAYS)}, SlotPlan(open=(0,)), id="the lowest free index"),
        pytest.param(1, slots(IDLE, IDLE, IDLE), SlotPlan(retire=(2, 1)), id="shrink from the top"),
        pytest.param(2, slots(IDLE, BUSY, BUSY), SlotPlan(retire=(0,)), id="an idle one before busy ones"),
        pytest.param(1, slots(BUSY, STARTING, BUSY), SlotPlan(retire=(1, 2)), id="a starting one before busy ones"),
        pytest.param(1, slots(BUSY, BACKOFF), SlotPlan(retire=(1,)), id="one that waits to be started"),
        pytest.param(0, slots(BUSY, BUSY), SlotPlan(retire=(1, 0)), id="to nothing"),
        pytest.param(
            2, {0: (BUSY, STAYS), 1: (BUSY, LEAVES)}, SlotPlan(keep=(1,)), id="a retiring one wanted again is kept"
        ),
        pytest.param(
            3,
            {0: (BUSY, STAYS), 1: (BUSY, LEAVES)},
            SlotPlan(keep=(1,), open=(2,)),
            id="kept, and one more opened",
        ),
        pytest.param(
            2,
            {0: (BUSY, STAYS), 1: (BUSY, LEAVES), 2: (BUSY, LEAVES)},
            SlotPlan(keep=(1,)),
            id="no more are kept than wanted",
        ),
        pytest.param(
            2, {0: (BUSY, STAYS), 1: (STOPPING, LEAVES)}, SlotPlan(open=(2,)), id="a stopping one is past keeping"
        ),
        pytest.param(1, {0: (BUSY, STAYS), 1: (BUSY, LEAVES)}, SlotPlan(), id="what leaves already is no surplus"),
    ],
)
def test_the_plan(desired, there, plan):
    assert plan_slots(desired, there) == plan


some_slots = st.dictionaries(st.integers(0, 20), st.tuples(st.sampled_from(SlotState), st.booleans()), max_size=12)


@given(desired=st.integers(0, 20), there=some_slots)
def test_carrying_out_the_plan_reaches_the_desired_number(desired, there):
    plan = plan_slots(desired, there)
    assert not set(plan.open) & set(there)
    assert all(not there[index][1] for index in plan.retire)
    assert all(there[index][1] for index in plan.keep)
    staying = {index for index, (_, retiring) in there.items() if not retiring}
    staying = (staying - set(plan.retire)) | set(plan.keep) | set(plan.open)
    assert len(staying) == desired


@given(desired=st.integers(0, 20), there=some_slots)
def test_a_reached_plan_asks_for_nothing_more(desired, there):
    plan = plan_slots(desired, there)
    after = dict(there)
    after.update({index: (there[index][0], LEAVES) for index in plan.retire})
    after.update({index: (there[index][0], STAYS) for index in plan.keep})
    after.update(dict.fromkeys(plan.open, (STARTING, STAYS)))
    assert plan_slots(desired, after) == SlotPlan()


@given(desired=st.integers(0, 20), there=some_slots)
def test_no_busy_slot_is_retired_while_one_that_is_not_stays(desired, there):
    plan = plan_slots(desired, there)
    staying = [state for index, (state, retiring) in there.items() if not retiring and index not in plan.retire]
    if any(there[index][0] is BUSY for index in plan.retire):
        assert all(state is BUSY for state in staying)


@pytest.mark.parametrize(
    ("failures", "delay"), [(0, 0.1), (1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30.0), (10**9, 30.0)]
)
def test_failed_starts_are_repeated_ever_more_slowly(failures, delay):
    assert start_delay(failures) == pytest.approx(delay)
