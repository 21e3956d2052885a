"""The log keeps order per key and loses nothing; hash and assignment are Kafka's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from beyondlab.events.log import EventLog, StaleMember, murmur2, partition_of, range_assignment

KEYS = [f"key-{n}" for n in range(7)]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
     (b"a-little-bit-longer-string", -1486304829), (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
     (b"abc", 479470107)],
)  # fmt: skip
def test_murmur2_is_kafkas(data, wanted):
    """apache/kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2."""
    assert murmur2(data) == wanted
    assert partition_of(data, 7) == (wanted & 0x7FFFFFFF) % 7


@pytest.mark.parametrize(
    ("name", "partitions", "members", "wanted"),
    [
        ("testOneConsumerOneTopic", 3, ["consumer1"], [[0, 1, 2]]),
        ("testTwoConsumersOneTopicOnePartition", 1, ["consumer1", "consumer2"], [[0], []]),
        ("testTwoConsumersOneTopicTwoPartitions", 2, ["consumer1", "consumer2"], [[0], [1]]),
        ("testMultipleConsumersMixedTopics, topic1", 3, ["consumer1", "consumer2", "consumer3"], [[0], [1], [2]]),
        ("testMultipleConsumersMixedTopics, topic2", 2, ["consumer2"], [[0, 1]]),
        ("testTwoConsumersTwoTopicsSixPartitions", 3, ["consumer1", "consumer2"], [[0, 1], [2]]),
        ("testStaticMemberRangeAssignmentPersistent, topic1", 5,
         ["consumer1", "consumer2", "consumer3", "consumer4"], [[0, 1], [2], [3], [4]]),
        ("testStaticMemberRangeAssignmentPersistent, topic2", 4,
         ["consumer1", "consumer2", "consumer3", "consumer4"], [[0], [1], [2], [3]]),
    ],
)  # fmt: skip
def test_ranges_are_kafkas(name, partitions, members, wanted):
    """apache/kafka, clients/src/test/java/org/apache/kafka/clients/consumer/RangeAssignorTest.java."""
    assert range_assignment(partitions, members) == dict(zip(members, wanted))
    assert range_assignment(partitions, members[::-1]) == dict(zip(members, wanted))


@given(st.integers(0, 40), st.sets(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=9))
def test_every_partition_has_one_reader(partitions, members):
    dealt = range_assignment(partitions, sorted(members))
    assert sorted(sum(dealt.values(), [])) == list(range(partitions))
    sizes = [len(held) for held in dealt.values()]
    assert max(sizes) - min(sizes) <= 1


class LogMachine(RuleBasedStateMachine):
    """Producers, consumers that come, go, die before their commit, and try to commit what is not theirs any more."""

    def __init__(self) -> None:
        super().__init__()
        self.log = EventLog(4)
        self.sent: dict[str, list[int]] = {key: [] for key in KEYS}
        self.count = 0
        self.members: set[str] = set()
        self.read: dict[str, list] = {}
        self.done: list = []
        self.log.join("g", "m0")
        self.members.add("m0")

    @rule(key=st.sampled_from(KEYS))
    def append(self, key: str) -> None:
        self.log.append(key, self.count)
        self.sent[key].append(self.count)
        self.count += 1

    @rule(member=st.sampled_from(["m0", "m1", "m2"]))
    def join(self, member: str) -> None:
        self.log.join("g", member)
        self.members.add(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data) -> None:
        member = data.draw(st.sampled_from(sorted(self.members)))
        self.log.leave("g", member)
        self.members.remove(member)
        with pytest.raises(StaleMember):
            self.log.poll("g", member)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), limit=st.integers(1, 5))
    def poll(self, data, limit: int) -> None:
        member = data.draw(st.sampled_from(sorted(self.members)))
        committed = self.log.committed("g")
        found = self.log.poll("g", member, limit)
        assert len(found) <= limit
        assert all(record.offset >= committed[record.partition] for record in found), "read again after its commit"
        assert {record.partition for record in found} <= set(self.log.assignment("g")[member])
        self.read.setdefault(member, []).extend(found)

    @precondition(lambda self: any(self.read.values()))
    @rule(data=st.data())
    def work_and_commit(self, data) -> None:
        member = data.draw(st.sampled_from(sorted(m for m, held in self.read.items() if held)))
        record = self.read[member].pop(0)
        self.done.append(record)
        mine = record.partition in self.log.assignment("g").get(member, [])
        before = self.log.committed("g")
        if mine:
            self.log.commit("g", member, record)
            assert self.log.committed("g")[record.partition] >= before[record.partition], "a commit went back"
        else:
            with pytest.raises(StaleMember):
                self.log.commit("g", member, record)

    @invariant()
    def order_per_key_in_the_log(self) -> None:
        for key, numbers in self.sent.items():
            stored = [r.value for r in self.log.partitions[partition_of(key, 4)] if r.key == key]
            assert stored == numbers

    @invariant()
    def what_is_committed_was_worked(self) -> None:
        worked = {(r.partition, r.offset) for r in self.done}
        for number, upto in enumerate(self.log.committed("g")):
            # A commit says "up to here": all of it was worked, by this member or one before it.
            assert upto == 0 or (number, upto - 1) in worked
        assert self.log.lag("g") == self.count - sum(self.log.committed("g"))


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLog = LogMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=60), st.integers(1, 5))
def test_at_least_once_in_order_for_each_key(steps, partitions):
    """One consumer that dies at random before its commit: nothing is missing, and first times are in order."""
    log = EventLog(partitions)
    log.join("g", "m")
    for number, (key, _) in enumerate(steps):
        log.append(key, number)
    crashes = [dies for _, dies in steps] + [False]
    seen = []
    while found := log.poll("g", "m"):
        seen.append(found[0])
        if crashes.pop(0) if crashes else False:
            log.join("g", "m")  # a new life: from the committed offset
        else:
            log.commit("g", "m", found[0])
    assert {r.value for r in seen} == set(range(len(steps)))
    for key in KEYS:
        first = list(dict.fromkeys(r.value for r in seen if r.key == key))
        assert first == sorted(first)


def test_a_group_can_read_everything_again():
    log = EventLog(2)
    for n in range(6):
        log.append(f"k{n}", n)
    log.join("g", "m")
    first = log.poll("g", "m", 10)
    for record in first:
        log.commit("g", "m", record)
    assert log.poll("g", "m", 10) == [] and log.lag("g") == 0
    log.seek("g")
    assert log.poll("g", "m", 10) == first and log.lag("g") == 6
    log.join("late", "m")
    assert log.poll("late", "m", 10) == first


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="partitions=0"):
        EventLog(0)
    with pytest.raises(ValueError, match="partitions=0"):
        partition_of("k", 0)
    log = EventLog()
    with pytest.raises(StaleMember, match="nobody joined"):
        log.lag("g")
    log.join("g", "m")
    with pytest.raises(ValueError, match="limit=0"):
        log.poll("g", "m", 0)
    with pytest.raises(StaleMember, match="member='x'"):
        log.leave("g", "x")
