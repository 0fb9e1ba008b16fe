"""The ledger: what is noted of each message, when it is there, and how queues are judged by it, in virtual time."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from broker.entropy import Entropy
from broker.errors import BrokerFailure, InvalidParameterValue
from broker.faults import Hit
from broker.ledger import events
from broker.ledger.ledger import DROP_ROWS
from broker.limits import AWS
from broker.names import World
from engine.conftest import NewEngine
from engine.ledger_support import defects, events_of, life, verdict
from engine.support import DAY_S, WORLD, Engine


@pytest.fixture
def on(engine: Engine) -> Engine:
    engine.broker.ledger.enable()
    return engine


def hit(kind: str) -> Hit:
    return Hit("a rule", kind, {}, Entropy(1))


# what is noted


def test_off_nothing_is_noted(engine: Engine) -> None:
    queue = engine.create("orders")
    engine.send(queue)
    engine.delete(queue, *engine.receive(queue))
    engine.settle()
    assert engine.rows("SELECT * FROM ledger_entry") == []
    assert engine.rows("SELECT * FROM ledger_name") == []


def test_a_message_that_is_sent_received_and_deleted(on: Engine) -> None:
    queue = on.create("orders")
    on.broker.ledger.by = "AKIA Boto3/1.40 more"
    sent = on.send(queue, delay_s=2)
    on.advance(3)
    on.broker.ledger.by = "AKIB Boto3/1.41 more"
    (message,) = on.receive(queue, visibility_timeout_s=30)
    on.advance(1)
    on.delete(queue, message)
    assert str(life(on, sent.message_id)) == (
        f"Message {sent.message_id}\n\n"
        "in queue orders (000000000000, us-east-1)\n"
        "  2023-11-14T22:13:20.000Z                 sent by AKIA (Boto3/1.40), hidden until 2023-11-14T22:13:22.000Z\n"
        "  2023-11-14T22:13:23.000Z       +3.000 s  delivered to AKIB (Boto3/1.41) (receive 1), "
        "hidden until 2023-11-14T22:13:53.000Z\n"
        "  2023-11-14T22:13:24.000Z       +4.000 s  deleted by AKIB (Boto3/1.41), by the handle of receive 1\n"
    )
    document = life(on, sent.message_id).document()
    assert [(moment["event"], moment["after_ms"]) for moment in document["timeline"]] == [
        ("sent", 0),
        ("delivered", 3000),
        ("acknowledged", 4000),
    ]
    assert document["timeline"][1]["by"] == "AKIB Boto3/1.41 more"
    assert document["timeline"][1]["receive"] == 1


def test_a_return_is_where_it_belongs_in_time(on: Engine) -> None:
    queue = on.create("orders")
    sent = on.send(queue)
    (first,) = on.receive(queue, visibility_timeout_s=10)
    on.advance(4)
    on.change_visibility(queue, first, 3)
    assert events_of(on, sent.message_id) == ["sent", "delivered", "changed"]
    on.advance(3)
    assert events_of(on, sent.message_id)[3:] == ["returned"]
    on.advance(5)
    on.receive(queue, visibility_timeout_s=0)
    on.delete(queue, first)
    assert events_of(on, sent.message_id)[3:] == ["returned", "delivered", "returned", "stale"]
    line = life(on, sent.message_id)
    assert [moment.at_ms - line.moments[0].at_ms for moment in line.moments] == [0, 0, 4000, 7000, 12000, 12000, 12000]


def test_what_is_given_back_is_told_from_what_is_forgotten(on: Engine) -> None:
    queue = on.create("orders")
    sent = on.send(queue)
    for message in on.receive(queue):
        on.change_visibility(queue, message, 0)
    on.receive(queue, visibility_timeout_s=5)
    on.advance(5)
    texts = [moment.text for moment in life(on, sent.message_id).moments]
    assert texts[2:4] == ["visibility changed: visible now", "returned: receive 1 gave it back"]
    assert texts[5:] == ["returned: nobody deleted it while receive 2 had it"]


def test_a_stale_delete_of_a_message_that_is_gone(on: Engine) -> None:
    queue = on.create("orders")
    sent = on.send(queue)
    (first,) = on.receive(queue, visibility_timeout_s=0)
    (second,) = on.receive(queue)
    on.delete(queue, second, first)
    assert events_of(on, sent.message_id)[-2:] == ["acknowledged", "stale"]


def test_fifo_deletes_that_are_refused(on: Engine) -> None:
    queue = on.create("orders.fifo")
    sent = on.send(queue)
    (message,) = on.receive(queue, visibility_timeout_s=1)
    on.advance(2)
    with pytest.raises(InvalidParameterValue):
        on.delete(queue, message)
    assert events_of(on, sent.message_id) == ["sent", "delivered", "returned", "stale"]


def test_a_second_send_with_the_same_deduplication_id(on: Engine) -> None:
    queue = on.create("orders.fifo")
    sent = on.send(queue, "a")
    on.send(queue, "a")
    assert events_of(on, sent.message_id) == ["sent", "deduplicated"]


def test_an_attempt_that_is_answered_again(on: Engine) -> None:
    queue = on.create("orders.fifo")
    sent = on.send(queue, "a")
    on.receive(queue, attempt_id="once", visibility_timeout_s=10)
    on.advance(5)
    on.receive(queue, attempt_id="once", visibility_timeout_s=10)
    assert events_of(on, sent.message_id) == ["sent", "delivered", "delivered"]
    on.advance(9)
    assert events_of(on, sent.message_id) == ["sent", "delivered", "delivered"]
    assert verdict(on, queue).counts["received_more_than_once"] == 0


def test_dead_letters_and_their_redrive(on: Engine) -> None:
    dead = on.create("dead")
    queue = on.create("orders")
    on.set_redrive(queue, dead, 2)
    sent = on.send(queue)
    for _ in range(3):
        on.receive(queue, visibility_timeout_s=1)
        on.advance(1)
    assert events_of(on, sent.message_id) == [
        *("sent", "delivered", "returned", "delivered", "returned", "dead-lettered", "sent")
    ]
    on.move_tasks.start(WORLD, dead.arn, None, None)
    on.advance(1)
    assert events_of(on, sent.message_id)[-1] == "redriven"
    line = life(on, sent.message_id)
    ((new_id, place),) = line.copies
    assert place == queue.arn
    assert life(on, new_id).origins == [sent.message_id]
    assert "came by a redrive from queue dead" in str(life(on, new_id))
    of_source = verdict(on, queue)
    assert of_source.dead_lettered == {"received 2 times without a delete (maxReceiveCount)": 1}
    assert (of_source.counts["sent"], of_source.counts["dead_lettered"], of_source.counts["waiting"]) == (2, 1, 1)
    assert verdict(on, dead).counts["redriven"] == 1


def test_expiry_whoever_notices_it(on: Engine) -> None:
    queue = on.create("orders", MessageRetentionPeriod="60")
    ids = [on.send(queue).message_id for _ in range(3)]
    on.advance(61)
    for id in ids:
        assert events_of(on, id) == ["sent", "expired"]
    assert defects(on, queue) == {"expired": 3}


def test_a_purge_ends_what_was_there(on: Engine) -> None:
    queue = on.create("orders")
    before = on.send(queue)
    deleted = on.send(queue)
    on.delete(queue, *[m for m in on.receive(queue) if m.message_id == deleted.message_id])
    on.queues.purge(queue)
    after = on.send(queue)
    assert events_of(on, before.message_id)[-1] == "purged"
    assert events_of(on, deleted.message_id)[-1] == "acknowledged"
    assert events_of(on, after.message_id) == ["sent"]
    counts = verdict(on, queue).counts
    assert (counts["purged"], counts["acknowledged"], counts["waiting"]) == (1, 1, 1)


def test_a_purge_that_takes_its_time(new_engine: NewEngine) -> None:
    engine = new_engine(limits=AWS)
    engine.broker.ledger.enable()
    queue = engine.create("orders")
    engine.advance(2)
    sent = engine.send(queue)
    engine.queues.purge(queue)
    assert events_of(engine, sent.message_id) == ["sent"]
    engine.advance(61)
    assert events_of(engine, sent.message_id) == ["sent", "purged"]


def test_long_polls_are_of_who_waits(on: Engine) -> None:
    queue = on.create("orders")
    on.broker.ledger.by = "consumer"
    poll = on.poll(queue)
    on.broker.ledger.by = "producer"
    sent = on.send(queue)
    on.settle()
    assert poll.messages
    assert [(moment.event, moment.by) for moment in life(on, sent.message_id).moments] == [
        ("sent", "producer"),
        ("delivered", "consumer"),
    ]


# when it is there


def test_a_group_that_fails_takes_its_notes_with_it(on: Engine) -> None:
    queue = on.create("orders")
    first = on.send(queue)
    on.settle()
    second = on.send(queue)
    on.broker.commit.abort(BrokerFailure("on purpose"))
    on.settle()
    third = on.send(on.find("orders"))
    on.settle()
    assert [events_of(on, sent.message_id) for sent in (first, second, third)] == [["sent"], [], ["sent"]]
    assert on.broker.ledger.count == 2
    assert [row[0] for row in on.rows("SELECT id FROM ledger_entry ORDER BY id")] == [1, 2]


def test_it_stays_on_and_keeps_what_it_knows_across_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    engine.broker.ledger.enable(capacity=1234)
    sent = engine.send(engine.create("orders"))
    engine.restart()
    ledger = engine.broker.ledger
    assert (ledger.is_on, ledger.capacity, ledger.count) == (True, 1234, 1)
    engine.receive(engine.find("orders"))
    assert events_of(engine, sent.message_id) == ["sent", "delivered"]
    ledger.disable()
    engine.restart()
    assert not engine.broker.ledger.is_on
    engine.send(engine.find("orders"))
    assert engine.broker.ledger.count == 2


def test_the_oldest_go_in_steps(on: Engine) -> None:
    ledger = on.broker.ledger
    ledger.enable(capacity=5_000)
    queue = on.create("orders")
    for _ in range(5_100):
        on.send(queue)
        on.settle()
    ledger.look()
    assert 5_000 - DROP_ROWS <= ledger.count <= 5_000
    assert ledger.dropped + ledger.count == 5_100
    assert on.rows("SELECT count(*), min(id) FROM ledger_entry") == [(ledger.count, ledger.dropped + 1)]
    ledger.enable(capacity=100)
    on.settle()
    assert ledger.count == 100
    assert verdict(on, queue).dropped == 5_000


def test_half_a_life_is_not_judged(on: Engine) -> None:
    ledger = on.broker.ledger
    queue = on.create("orders")
    on.send_all(queue, "a b")
    messages = on.receive(queue)
    on.settle()
    ledger.enable(capacity=3)
    on.settle()
    on.delete(queue, *messages)
    found = verdict(on, queue)
    assert (found.counts["sent"], found.counts["not_judged"]) == (0, 2)
    assert "2  not judged: their sending is not in the ledger" in str(found)
    assert found.passed
    for message in messages:
        assert events_of(on, message.message_id)[-1] == "acknowledged"


def test_clear_and_reset(on: Engine) -> None:
    queue = on.create("orders")
    sent = on.send(queue)
    on.broker.reset("111122223333")
    assert events_of(on, sent.message_id) == ["sent"]
    on.broker.reset("000000000000")
    assert events_of(on, sent.message_id) == []
    other = on.send(on.create("orders"))
    on.broker.ledger.clear()
    assert events_of(on, other.message_id) == []
    assert on.broker.ledger.count == 0
    again = on.send(on.find("orders"))
    on.settle()
    assert events_of(on, again.message_id) == ["sent"]


def test_one_account_is_reset_and_the_other_stays(on: Engine) -> None:
    ledger = on.broker.ledger
    mine, theirs = on.create("orders"), on.queues.create(World("111122223333", "us-east-1"), "orders", {})
    ledger.by = "000000000000 me"
    gone, kept = on.send(mine), on.send(theirs)
    on.broker.reset("000000000000")
    assert [events_of(on, sent.message_id) for sent in (gone, kept)] == [[], ["sent"]]
    assert ledger.count == 1
    ledger.by = "111122223333 they"
    on.receive(theirs)
    on.settle()
    assert [moment.by for moment in life(on, kept.message_id).moments] == ["", "111122223333 they"]
    assert on.rows("SELECT name FROM ledger_name ORDER BY name") == [("111122223333 they",), (theirs.arn,)]


# verdicts


def test_all_is_well(on: Engine) -> None:
    queue = on.create("orders")
    on.send_all(queue, "a b c")
    on.advance(2)
    on.delete(queue, *on.receive(queue))
    found = verdict(on, queue)
    assert found.passed
    assert found.judged_by == "deletes"
    assert (found.counts["sent"], found.counts["processed_once"], found.counts["acknowledged"]) == (3, 3, 3)
    times = found.document()["send_to_delete_ms"]
    assert (times["median"], times["max"], len(times["slowest"])) == (2000, 2000, 3)


def test_by_deletes_alone(on: Engine) -> None:
    queue = on.create("orders")
    on.send_all(queue, "twice never waits")
    twice, never = on.receive(queue, 2, visibility_timeout_s=1)
    on.advance(1)
    (again,) = [m for m in on.receive(queue, 10) if m.message_id == twice.message_id]
    on.advance(60)
    on.delete(queue, again, twice)
    found = verdict(on, queue)
    assert {check.name: check.message_ids for check in found.defects} == {
        "processed-more-than-once": [twice.message_id],
        "never-acknowledged": sorted(m.message_id for m in on.listing(queue)),
    }
    assert found.counts["stale_deletes"] == 1
    assert never.message_id in found.defects[1].message_ids


def test_by_what_consumers_report(on: Engine) -> None:
    queue = on.create("orders")
    ledger = on.broker.ledger
    on.send_all(queue, "good twice before never")
    good, twice, before, never = on.receive(queue)
    for message in (good, twice, twice):
        assert ledger.effect(message.message_id) == (queue.arn, True)
    on.delete(queue, good, twice, before, never)
    ledger.effect(before.message_id, queue.arn)
    found = verdict(on, queue)
    assert found.judged_by == "effects"
    assert {check.name: check.message_ids for check in found.defects} == {
        "done-more-than-once": [twice.message_id],
        "deleted-before-done": [before.message_id],
        "deleted-never-done": [never.message_id],
    }
    assert found.counts["processed_once"] == 2


def test_effects_have_keys(on: Engine) -> None:
    queue = on.create("orders")
    ledger = on.broker.ledger
    on.send_all(queue, "one two")
    one, two = on.receive(queue)
    ledger.effect(one.message_id, key="stock")
    ledger.effect(one.message_id, key="mail")
    ledger.effect(two.message_id, key="order 7")
    on.delete(queue, one, two)
    assert verdict(on, queue).passed
    ledger.effect(one.message_id, key="order 7")
    (defect,) = verdict(on, queue).defects
    assert (defect.name, defect.count) == ("done-more-than-once", 1)
    assert "order 7" in defect.message_ids[0]


def test_order_within_groups(on: Engine) -> None:
    queue = on.create("orders.fifo")
    ledger = on.broker.ledger
    on.send_all(queue, "1 2 3")
    on.send(queue, "other", group_id="h")
    messages = {message.body: message for message in on.receive(queue)}
    on.delete(queue, messages["2"], messages["other"], messages["3"])
    assert defects(on, queue) == {}
    on.advance(60)
    (again,) = on.receive(queue)
    on.delete(queue, again)
    assert defects(on, queue) == {"processed-out-of-order": 1}
    for body in ("1", "3", "2", "other"):
        ledger.effect(messages[body].message_id)
    found = verdict(on, queue)
    by_name = {check.name: check.message_ids for check in found.defects}
    assert by_name["done-out-of-order"] == [messages["2"].message_id]
    ledger.effect(messages["1"].message_id)
    by_name = {check.name: check.message_ids for check in verdict(on, queue).defects}
    assert by_name["done-out-of-order"] == [messages["1"].message_id, messages["2"].message_id]


def test_done_and_dead_all_the_same(on: Engine) -> None:
    dead, queue = on.create("dead"), on.create("orders")
    on.set_redrive(queue, dead, 1)
    on.send(queue)
    (message,) = on.receive(queue, visibility_timeout_s=1)
    on.broker.ledger.effect(message.message_id)
    on.advance(1)
    assert defects(on, queue) == {"never-acknowledged": 1}
    on.receive(queue)
    assert defects(on, queue) == {"done-then-dead-lettered": 1}


def test_failed_entries_of_batches(on: Engine) -> None:
    queue = on.create("orders")
    ledger = on.broker.ledger
    on.send_all(queue, "ignored tried")
    ignored, tried = on.receive(queue, visibility_timeout_s=10)
    for message in (ignored, tried):
        found = on.messaging.identify(queue, on.handle(queue, message))
        assert found == (message.message_id, 1)
        detail = {"operation": "DeleteMessageBatch", "entry": "0", "receive": found[1]}
        ledger.fault(hit("partial-batch"), queue.arn, message.message_id, detail)
    on.delete(queue, tried)
    on.advance(10)
    on.delete(queue, *on.receive(queue))
    found_all = verdict(on, queue)
    assert {c.name: c.message_ids for c in found_all.defects} == {"batch-failures-ignored": [ignored.message_id]}
    assert found_all.faults == {"partial-batch": 2}


def test_whose_handle_it_is_is_known_after_the_delete_too(on: Engine) -> None:
    queue = on.create("orders")
    sent = on.send(queue)
    (message,) = on.receive(queue)
    on.delete(queue, message)
    assert on.messaging.identify(queue, on.handle(queue, message)) == (sent.message_id, 1)
    assert on.messaging.identify(queue, "nonsense") is None


def test_failed_sends_of_batches(on: Engine) -> None:
    queue = on.create("orders")
    detail = {"operation": "SendMessageBatch", "md5": "9dd4e461268c8034f5c8564e155c67a6"}  # of an x
    on.broker.ledger.fault(hit("partial-batch"), queue.arn, "", detail)
    (defect,) = verdict(on, queue).defects
    assert defect.name == "batch-failures-ignored"
    on.send(queue, "x")
    assert verdict(on, queue).passed


def test_what_a_fault_has_struck(on: Engine) -> None:
    queue = on.create("orders")
    ledger = on.broker.ledger
    mark = ledger.mark()
    sent = [on.send(queue), on.send(queue)]
    ledger.struck(hit("done-not-answered"), queue.arn, mark, {"operation": "SendMessage"})
    ledger.struck(hit("done-not-answered"), queue.arn, ledger.mark())
    ledger.fault(hit("answered-not-done"), queue.arn, "", {"operation": "SendMessage"})
    for one in sent:
        assert events_of(on, one.message_id) == ["sent", "fault"]
    found = verdict(on, queue)
    assert found.faults == {"done-not-answered": 3, "answered-not-done": 1}
    assert found.counts["lost_by_a_fault"] == 1


# what it looks like


def test_what_a_client_is_not_told_was_not_struck(on: Engine) -> None:
    dead, queue = on.create("dead"), on.create("orders")
    on.set_redrive(queue, dead, 1)
    sent = on.send(queue)
    on.receive(queue, visibility_timeout_s=0)
    mark = on.broker.ledger.mark()
    on.receive(queue)
    on.broker.ledger.struck(hit("done-not-answered"), queue.arn, mark)
    assert events_of(on, sent.message_id)[-2:] == ["dead-lettered", "sent"]
    assert verdict(on, queue).faults == {"done-not-answered": 1}


def test_the_text_and_the_test_report(on: Engine) -> None:
    queue = on.create("orders")
    on.send_all(queue, "a b")
    first, second = on.receive(queue, visibility_timeout_s=1)
    on.advance(1.5)
    on.delete(queue, first)
    on.broker.ledger.fault(hit("latency"), queue.arn, "", {"operation": "ReceiveMessage"})
    found = verdict(on, queue)
    assert str(found) == (
        "Queue orders: 1 defect.\n\n"
        "          2  sent\n"
        "          2  deliveries\n"
        "          1  processed once\n"
        "          0  processed more than once\n"
        "          1  acknowledged\n"
        "          1  never acknowledged\n\n"
        "Faults that struck:\n"
        "          1  latency\n\n"
        "From send to delete: median 1.500 s, 90 % within 1.500 s, 99 % within 1.500 s. The slowest:\n"
        f"    1.500 s  {first.message_id}\n\n"
        "Judged by receives and deletes: what consumers do in between, they may report, and have not "
        "(POST /_sidebus/ledger/effects).\n\n"
        "passed  processed-more-than-once\n"
        "FAILED  never-acknowledged, 1 of them\n"
        "        The message was received and nobody has deleted it: its visibility timeout ended, or was set to 0 to "
        "give it back.\n"
        f"        {second.message_id}\n"
        "passed  expired\n"
        "passed  batch-failures-ignored\n"
    )
    suites = ElementTree.fromstring(found.junit())
    (suite,) = suites
    assert (suites.tag, suite.tag) == ("testsuites", "testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("sidebus.queue.orders", "4", "1")
    cases = {case.get("name"): case.find("failure") for case in suite.findall("testcase")}
    assert [name for name, failure in cases.items() if failure is not None] == ["never-acknowledged"]
    failure = cases["never-acknowledged"]
    assert failure is not None
    assert second.message_id in (failure.text or "")


def test_every_event_is_listed() -> None:
    named = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    assert named - {events.RETURNED} == set(events.ALL)


def test_a_clock_that_was_advanced_by_two_weeks(on: Engine) -> None:
    queue = on.create("orders", MessageRetentionPeriod=str(14 * DAY_S))
    sent = on.send(queue)
    on.receive(queue, visibility_timeout_s=30)
    on.advance(14 * DAY_S)
    line = life(on, sent.message_id)
    assert [moment.event for moment in line.moments] == ["sent", "delivered", "returned", "expired"]
    assert line.moments[2].at_ms - line.moments[0].at_ms == 30_000
