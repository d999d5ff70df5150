import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.payload.data.databases.asking import Span, selected
from remote.payload.data.databases.sql import BadQuery, Query, Term, bound, quoted


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("SELECT a, b FROM t ORDER BY a, b DESC", "ab", [("a", ""), ("b", " DESC")]),
        ("SELECT a FROM t ORDER BY t.A desc nulls last LIMIT 5", "a", [("a", " DESC NULLS LAST")]),
        ("SELECT a, b FROM t ORDER BY 2, 1 OFFSET 3", "ab", [("b", ""), ("a", "")]),
        ('SELECT a FROM t ORDER BY "a" -- by z\n;', "a", [("a", "")]),
        ("SELECT rank() OVER (ORDER BY z) AS a FROM t ORDER BY a", "a", [("a", "")]),
        (
            "WITH q AS (SELECT 1 ORDER BY z) SELECT a FROM q /* ORDER BY z */ ORDER BY a",
            "a",
            [("a", "")],
        ),
    ],
)
def test_the_order_of_a_query(text, columns, expected):
    assert [(term.column, term.way) for term in Query.of(text).order(list(columns))] == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT a FROM t", "no ORDER BY"),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a) q", "no ORDER BY"),
        ("SELECT a FROM t WHERE b = ' ORDER BY a'", "no ORDER BY"),
        ("SELECT a FROM t ORDER BY lower(a)", r"ordered by lower\(a\)"),
        ("SELECT a FROM t ORDER BY b", "ordered by b"),
        ("SELECT a FROM t ORDER BY 2", "ordered by 2"),
        ("SELECT a FROM t ORDER BY a,", "ordered by "),
    ],
)
def test_an_order_that_nobody_can_check(text, why):
    with pytest.raises(BadQuery, match=why):
        Query.of(text).order(["a"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no SELECT"),
        ("-- SELECT", "no SELECT"),
        ("COPY t TO '/tmp/x'", "no SELECT"),
        ("SELECT 1; SELECT 2", "more than one"),
        ("SELECT (1", "bracket"),
        ("SELECT :a", ":a"),
        ("SELECT a IN :none", "empty list"),
    ],
)
def test_what_is_no_query(text, why):
    with pytest.raises(BadQuery, match=why):
        Query.of(text, {"none": []})


def test_parameters_are_bound_and_never_pasted():
    text = "SELECT ':a', \":a\", x::text, y[1:2] FROM t WHERE s LIKE '%' AND b = :a AND c IN :list -- :a"
    query = Query.of(text, {"a": "it's", "list": [1, 2], "unused": 3})
    sql, values = bound(query, query.text, "%({})s")
    assert values == {"a": "it's", "list_0": 1, "list_1": 2}
    assert sql == (
        "SELECT ':a', \":a\", x::text, y[1:2] FROM t WHERE s LIKE '%%' AND b = %(a)s"
        " AND c IN (%(list_0)s, %(list_1)s)"
    )


def test_a_range_keeps_the_order_of_the_whole():
    query = Query.of("SELECT a FROM t ORDER BY a DESC", {})
    sql = selected(query, [Term("a", " DESC")], Span("a", 1, None))
    assert sql.endswith(') AS windlass WHERE "a" >= :windlass_low ORDER BY "a" DESC')
    assert selected(query).endswith(") AS windlass")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_can_be_quoted(name):
    connection = sqlite3.connect(":memory:")
    cursor = connection.execute(f"SELECT 1 AS {quoted(name)}")
    assert cursor.description[0][0] == name
    connection.close()


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_says_why_not(text):
    try:
        Query.of(text, {}).order(["a"])
    except BadQuery as error:
        assert str(error)


@given(
    st.lists(
        st.sampled_from(
            [
                "SELECT a",
                "'x;:a'",
                '"o"',
                "$$;$$",
                "--;\n",
                "/*:b*/",
                "(",
                ")",
                ":p",
                " ",
                "ORDER BY a",
                ",",
            ]
        )
    )
)
def test_pieces_of_sql_never_break_it(pieces):
    try:
        query = Query.of("".join(pieces), {"p": [1]})
        sql, values = bound(query, query.text, ":{}")
        query.order(["a"])
    except BadQuery:
        return
    assert set(values) <= {"p_0"} and ":b" not in sql.replace("/*:b*/", "")
