from remote.contract.artifacts.rows import Row
from remote.payload.data.units import Given, Origin, Reject


def test_the_first_of_each_stays(make_step, through):
    rows = [Row(text="a"), Row.of("a", "b"), Row(text="a"), Row.of("a", "b", group="other")]
    kept, aside = through(make_step("deduplicate"), rows)
    assert kept == rows[:2]
    assert [reject.reason for reject in aside] == ["repeats rows.jsonl:1", "repeats rows.jsonl:2"]
    assert not any(reject.is_bad for reject in aside)


def test_pieces_of_one_document_that_say_the_same_are_duplicates(make_step):
    step, origin = make_step("deduplicate"), Origin("book.pdf")
    results = [next(step(Given(Row(text="same"), origin))) for _ in range(2)]
    assert [isinstance(result, Reject) for result in results] == [False, True]
