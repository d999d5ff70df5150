"""The source `database`, on a real PostgreSQL, SQLite, Parquet and DuckDB."""

import json
import sqlite3
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.data.engine import Context
from remote.payload.data.sources import database
from remote.payload.data.units import Given, Reject
from remote.payload.job import Job, StageFailed
from remote.payload.stages import prepare
from tests.payload.box import postgres

RECIPE = Path(__file__).parents[3] / "playbooks" / "data" / "researcher-scorer.yaml"
TEACHERS = ("claude-haiku-20240307", "gemini-2.0-flash", "nobody-asked")
SCHEMA = """
CREATE TABLE user_profiles (
  twitter_id varchar(25) PRIMARY KEY, handle varchar(255) NOT NULL, name varchar(255) NOT NULL, bio text,
  created_at varchar(100), follower_count integer, location varchar(255));
CREATE TABLE profile_scores (
  id {uuid} PRIMARY KEY, twitter_id varchar(25) REFERENCES user_profiles, score numeric(3, 2), reason text,
  scored_at timestamp NOT NULL, scored_by varchar(100) NOT NULL, UNIQUE (twitter_id, scored_by));
"""
ORDERED = "SELECT id, scored_by AS instruction, reason AS output FROM profile_scores ORDER BY id"


def profiles(count=60):
    return [
        (
            str(1000 + n),
            f"user_{n}",
            f"Nämé {n} <{n}>",
            None if n % 7 == 0 else f"bio of {n}",
            "Mon Apr 29 2019",
            None if n % 5 == 0 else n * 10,
            "",
        )
        for n in range(count)
    ]


def scores(count=60):
    start = datetime(2026, 1, 1)
    found = []
    for n in range(count):
        for place, teacher in enumerate(TEACHERS):
            value = (n * 37 + place * 11) % 101 / 100
            when = start + timedelta(
                hours=n // 2
            )  # two profiles, and all teachers, at the same moment
            key = str(uuid.UUID(int=(n * 7919 % 1000) * 10 + place))
            found.append((key, str(1000 + n), value, f"because of {n}", when, teacher))
    return found


def filled(connection, mark, kind="uuid", moment=lambda when: when):
    for statement in SCHEMA.format(uuid=kind).split(";"):
        if statement.strip():
            connection.execute(statement)
    cursor = connection.cursor()
    marks = ", ".join([mark] * 7)
    cursor.executemany(f"INSERT INTO user_profiles VALUES ({marks})", profiles())
    marks = ", ".join([mark] * 6)
    rows = [(*row[:4], moment(row[4]), row[5]) for row in scores()]
    cursor.executemany(f"INSERT INTO profile_scores VALUES ({marks})", rows)
    connection.commit()


@pytest.fixture(scope="module")
def server():
    import psycopg

    with postgres.running() as port:
        dsn = f"postgresql://windlass:{quote(postgres.PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        with psycopg.connect(dsn) as connection:
            filled(connection, "%s")
        yield dsn


@pytest.fixture
def dsn(server, monkeypatch):
    monkeypatch.setenv("SCORER_DSN", server)
    monkeypatch.setattr(database, "_PAUSE", 0.01)
    return server


@pytest.fixture
def sqlite_file(tmp_path):
    path = tmp_path / "scores.sqlite"
    with sqlite3.connect(path) as connection:
        filled(connection, "?", "text", lambda when: when.isoformat(" "))
    connection.close()
    return path


@pytest.fixture
def parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet as files

    folder = tmp_path / "export"
    (folder / "profile_scores").mkdir(parents=True)
    names = ("twitter_id", "handle", "name", "bio", "created_at", "follower_count", "location")
    table = pa.table(dict(zip(names, map(list, zip(*profiles(), strict=True)), strict=True)))
    files.write_table(table, folder / "user_profiles.parquet")
    names = ("id", "twitter_id", "score", "reason", "scored_at", "scored_by")
    for number, part in enumerate((scores()[:70], scores()[70:])):
        table = pa.table(dict(zip(names, map(list, zip(*part, strict=True)), strict=True)))
        files.write_table(table, folder / "profile_scores" / f"part-{number}.parquet")
    return folder


def source(tmp_path, **entry):
    given = {"secret": "SCORER_DSN", "query": ORDERED, **entry}
    if "path" in given:
        del given["secret"]
        given["path"] = str(given["path"])
    return database.open_source(given, Context(tmp_path, tmp_path / "work", {}))


def rows(found):
    """All units' rows, in the engine's order."""
    units = sorted(found.units(), key=lambda unit: unit.id)
    return [result for unit in units for result in found.read(unit)]


def admin(dsn, *statements):
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        return [connection.execute(each) for each in statements]


def drop_readers(dsn):
    admin(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'windlass'",
    )


def recipe(**changes):
    told = yaml.safe_load(RECIPE.read_text())
    told["sources"][0].update(changes)
    if "path" in changes:
        told["sources"][0]["path"] = str(changes["path"])
        del told["sources"][0]["secret"]
    return {"seed": 42, **told}


def prepared(tmp_path, name, told):
    folder = tmp_path / name / "windlass" / "jobs" / "job-1"
    spec = JobSpec("job-1", "prepare", "r", inputs={}, options={}, recipe=told)
    atomic.write_text(folder / "spec.json", spec.to_json())
    job = Job(folder)
    prepare.main(job)
    return {each: job.artifact(f"{each}.jsonl").read_bytes() for each in ("train", "val")}


def test_the_recipe_gives_the_same_bytes_from_each_database(dsn, sqlite_file, parquet, tmp_path):
    made = {
        "postgres": prepared(tmp_path, "postgres", recipe()),
        "sqlite": prepared(tmp_path, "sqlite", recipe(path=sqlite_file)),
        "parquet": prepared(tmp_path, "parquet", recipe(path=parquet)),
    }
    assert made["postgres"] == made["sqlite"] == made["parquet"]
    given = [json.loads(line) for side in made["postgres"].values() for line in side.splitlines()]
    answers = [json.loads(row["messages"][1]["content"]) for row in given]
    assert all(list(answer) == ["handle", "score", "reason"] for answer in answers)
    assert {len(answer["score"]) for answer in answers} == {4}  # "0.90", not "0.9"
    sides = [
        {json.loads(line)["group"] for line in side.splitlines()}
        for side in made["sqlite"].values()
    ]
    assert not sides[0] & sides[1] and all(sides)
    assert {row["source"] for row in given} == set(TEACHERS[:2])
    assert not any(
        teacher in row["messages"][0]["content"] for row in given for teacher in TEACHERS
    )
    values = [float(answer["score"]) for answer in answers]
    yes, no = sum(value >= 0.7 for value in values), sum(value < 0.4 for value in values)
    assert yes == no > 10
    assert len(values) - yes - no <= yes


def test_the_newest_of_each_label_are_kept(dsn, tmp_path):
    told = recipe()["sources"][0]
    kept, beyond = [], []
    for result in rows(database.open_source(told, Context(tmp_path, tmp_path, {}))):
        (kept if isinstance(result, Given) else beyond).append(result)
    assert beyond and not any(reject.is_bad for reject in beyond)
    assert {reject.step for reject in beyond} == {"balance"}
    last = {}
    for result in kept:
        score = float(json.loads(result.row.answer)["score"])
        label = "yes" if score >= 0.7 else "no" if score < 0.4 else "between"
        last[label] = result.origin.line
    for reject in beyond:
        assert reject.origin.line > min(last.values())


def test_the_teacher_is_named_where_the_recipe_asks_for_it(sqlite_file, tmp_path):
    told = recipe(path=sqlite_file)
    told["sources"][0]["parameters"]["show_teacher"] = True
    given = rows(database.open_source(told["sources"][0], Context(tmp_path, tmp_path, {})))
    row = next(result.row for result in given if isinstance(result, Given))
    assert row.asked.endswith(f"\n(Scored by model: {row.source})")


def test_pages_are_the_whole_in_ranges_and_change_alone(dsn, tmp_path):
    whole = [result.row for result in rows(source(tmp_path))]
    paged = source(tmp_path, pages={"by": "id", "rows": 50})
    units = list(paged.units())
    assert [unit.id for unit in units] == [f"SCORER_DSN/{n:06}" for n in range(4)]
    assert [unit.size for unit in units] == [50, 50, 50, 30]
    assert [result.row for result in rows(paged)] == whole
    last = "UPDATE profile_scores SET reason = reason || '!' WHERE id = (SELECT id FROM profile_scores ORDER BY id DESC LIMIT 1)"
    try:
        admin(dsn, last)
        again = list(paged.units())
        assert [a.digest == b.digest for a, b in zip(units, again, strict=True)] == [True] * 3 + [
            False
        ]
    finally:
        admin(dsn, last.replace("reason || '!'", "rtrim(reason, '!')"))
    assert list(paged.units()) == units


@pytest.mark.parametrize("by", ["id", "twitter_id", "n"])
def test_pages_of_files_too(sqlite_file, parquet, tmp_path, by):
    query = (
        "SELECT id, twitter_id, CAST(twitter_id AS integer) AS n, scored_by AS instruction, reason AS"
        " output FROM profile_scores ORDER BY n, id"
    )
    for path in (sqlite_file, parquet):
        whole = [result.row for result in rows(source(tmp_path, path=path, query=query))]
        paged = source(tmp_path, path=path, query=query, pages={"by": by, "rows": 40})
        assert len(list(paged.units())) >= 4
        found = [result.row for result in rows(paged)]
        assert len(found) == len(whole) == 180
        assert sorted(map(str, found)) == sorted(map(str, whole))


def test_a_dropped_connection_is_had_anew_and_no_row_is_lost_or_doubled(dsn, tmp_path):
    query = "SELECT n, 'q' || n AS instruction, 'a' || n AS output FROM generate_series(1, 9000) n ORDER BY n"
    numbers = source(tmp_path, query=query)
    (unit,) = numbers.units()
    answers = []
    for result in numbers.read(unit):
        answers.append(result.row.answer)
        if len(answers) in (1500, 5500):
            drop_readers(dsn)
    assert answers == [f"a{n}" for n in range(1, 9001)]


def test_a_page_that_changed_meanwhile_is_set_aside_whole(dsn, tmp_path):
    admin(
        dsn,
        "CREATE TABLE shifting AS SELECT n, 'q' || n AS instruction, 'a' AS output FROM generate_series(1, 5000) n",
    )
    shifting = source(tmp_path, query="SELECT * FROM shifting ORDER BY n")
    (unit,) = shifting.units()
    read = shifting.read(unit)
    next(read)
    admin(dsn, "UPDATE shifting SET output = 'b' WHERE n = 1")
    drop_readers(dsn)
    with pytest.raises(ValueError, match="not the same any more"):
        list(read)
    admin(dsn, "DROP TABLE shifting")


def test_a_database_that_stays_away_costs_that_page_alone(dsn, tmp_path, monkeypatch):
    paged = source(tmp_path, pages={"by": "id", "rows": 50}, tries=2)
    first, second, *_ = paged.units()
    assert len(list(paged.read(first))) == 50
    monkeypatch.setenv("SCORER_DSN", "postgresql://windlass:hidden-word@127.0.0.1:1/postgres")
    with pytest.raises(ValueError, match=r"refused.*\(tried 2 times\)") as told:
        list(paged.read(second))
    assert "hidden-word" not in str(told.value)
    monkeypatch.setenv("SCORER_DSN", dsn)
    assert len(list(paged.read(second))) == 50


def test_nothing_can_be_written(dsn, tmp_path):
    admin(
        dsn,
        "CREATE FUNCTION harm() RETURNS text LANGUAGE sql AS $$ DELETE FROM profile_scores RETURNING reason $$",
    )
    harm = source(tmp_path, query="SELECT 1 AS n, 'q' AS instruction, harm() AS output ORDER BY n")
    with pytest.raises(StageFailed, match="read-only transaction"):
        list(harm.units())
    admin(dsn, "DROP FUNCTION harm")


def test_a_statement_that_takes_too_long_is_ended(dsn, sqlite_file, tmp_path):
    slow = "SELECT n, 'q' AS instruction, pg_sleep(9)::text AS output FROM generate_series(1, 9) n ORDER BY n"
    with pytest.raises(StageFailed, match=r"more than 0\.3 s.*statement_seconds"):
        list(source(tmp_path, query=slow, statement_seconds=0.3).units())
    endless = (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)"
        " SELECT count(*) AS n, 'q' AS instruction, 'a' AS output FROM t ORDER BY n"
    )
    local = source(tmp_path, path=sqlite_file, query=endless, statement_seconds=0.3)
    (unit,) = local.units()
    with pytest.raises(ValueError, match=r"more than 0\.3 s"):
        list(local.read(unit))


@pytest.mark.parametrize(
    "told",
    [
        "postgresql://windlass:hidden-word@127.0.0.1:{port}/postgres",
        "postgresql://windlass:hidden-word@127.0.0.1:{port}/nowhere",
        "postgresql://windlass:hidden-word@127.0.0.1:{port}/postgres?nonsense=hidden-word",
        "hidden-word no string at all",
        "host=127.0.0.1 port={port} password='hidden-word' user=no",
    ],
)
def test_a_connection_that_cannot_be_had_tells_nothing_of_its_string(
    dsn, tmp_path, monkeypatch, told
):
    monkeypatch.setenv("SCORER_DSN", told.format(port=dsn.rpartition(":")[2].partition("/")[0]))
    with pytest.raises(StageFailed) as failed:
        list(source(tmp_path).units())
    told = " ".join([failed.value.what, failed.value.why, failed.value.remedy])
    assert "SCORER_DSN" in told and "hidden-word" not in told
    assert failed.value.__cause__ is None and failed.value.__suppress_context__


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("SCORER_DSN", raising=False)
    with pytest.raises(StageFailed, match="SCORER_DSN is not set") as failed:
        list(source(tmp_path).units())
    assert failed.value.cause == Cause.CONFIG


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("SELECT id, reason FROM profile_scores", "no ORDER BY"),
        ("SELECT reason FROM profile_scores ORDER BY id", "ordered by id"),
        ("DELETE FROM profile_scores", "no SELECT"),
        ("SELECT 1 AS n ORDER BY n; DROP TABLE profile_scores", "more than one statement"),
        ("SELECT id FROM profile_scores WHERE reason = :who ORDER BY id", ":who"),
    ],
)
def test_a_query_that_cannot_be_is_refused_before_a_row_is_read(sqlite_file, tmp_path, query, what):
    with pytest.raises(StageFailed, match=what) as failed:
        list(source(tmp_path, path=sqlite_file, query=query).units())
    assert failed.value.cause == Cause.CONFIG


def test_a_column_that_is_named_twice_is_refused(dsn, tmp_path):
    query = "SELECT id, reason AS text, scored_by AS text FROM profile_scores ORDER BY id"
    with pytest.raises(StageFailed, match="a column twice: id, text, text"):
        list(source(tmp_path, query=query).units())


def test_an_order_with_ties_is_refused(dsn, sqlite_file, tmp_path):
    query = "SELECT scored_at, scored_by AS instruction, reason AS output FROM profile_scores ORDER BY scored_at DESC"
    for where in ({}, {"path": sqlite_file}):
        tied = source(tmp_path, query=query, **where)
        (unit,) = tied.units()
        with pytest.raises(ValueError, match="rows 1 and 2 have the same scored_at"):
            list(tied.read(unit))


def test_what_the_recipe_asks_for_must_be_there(sqlite_file, tmp_path):
    for changes in (
        {"columns": {"group": "nothing"}},
        {"template": {"text": "{{ nothing }}"}},
        {"balance": "nothing"},
        {"pages": {"by": "nothing"}},
    ):
        with pytest.raises(StageFailed, match="no column nothing"):
            list(source(tmp_path, path=sqlite_file, **changes).units())
    with pytest.raises(StageFailed, match="template `text`, line 1"):
        list(source(tmp_path, path=sqlite_file, template={"text": "{% if %}"}).units())


def test_a_row_that_is_none_is_set_aside_and_the_rest_goes_on(sqlite_file, tmp_path):
    with sqlite3.connect(sqlite_file) as connection:
        connection.execute(
            "UPDATE profile_scores SET reason = CAST(x'41ff42' AS text) WHERE rowid = 3"
        )
        connection.execute("UPDATE profile_scores SET reason = NULL WHERE rowid = 5")
        connection.execute("UPDATE profile_scores SET reason = x'00ff' WHERE rowid = 7")
    connection.close()
    found = rows(source(tmp_path, path=sqlite_file))
    bad = [result for result in found if isinstance(result, Reject)]
    assert len(found) == 180
    assert sorted(reject.reason for reject in bad) == [
        "`output` holds half a character (a lone surrogate)",
        "lacks the field `output`",
    ]
    assert all(reject.origin.line and reject.sample for reject in bad)


def test_a_template_does_no_harm(sqlite_file, tmp_path):
    for text in (
        "{{ ''.__class__.__mro__ }}",
        "{{ range(10 ** 9) | list }}",
        "{{ output.nothing.more }}",
    ):
        found = rows(source(tmp_path, path=sqlite_file, template={"text": text}))
        assert len(found) == 180 and all(isinstance(result, Reject) for result in found)


def test_parquet_opens_no_other_file(parquet, tmp_path):
    for query in (
        "SELECT * FROM read_csv('/etc/passwd', header=false, names=['n']) ORDER BY n",
        "SELECT * FROM read_text('/etc/hostname') ORDER BY filename",
    ):
        with pytest.raises(StageFailed, match="disabled by configuration"):
            list(source(tmp_path, path=parquet, query=query).units())


def test_a_duckdb_file(tmp_path, parquet):
    import duckdb

    path = tmp_path / "scores.duckdb"
    connection = duckdb.connect(str(path))
    connection.execute(
        f"CREATE TABLE profile_scores AS SELECT * FROM read_parquet('{parquet}/profile_scores/*')"
    )
    connection.close()
    before = path.read_bytes()
    found = [result.row for result in rows(source(tmp_path, path=path))]
    assert found == [result.row for result in rows(source(tmp_path, path=parquet))]
    assert path.read_bytes() == before


def test_a_file_that_is_none_of_them(tmp_path):
    (tmp_path / "x.db").write_bytes(b"nothing of the kind")
    (tmp_path / "y.sqlite").write_bytes(b"SQLite format 3\0" + b"\1" * 200)
    (tmp_path / "z.parquet").write_bytes(b"PAR1" + b"\1" * 200)
    for name in ("x.db", "y.sqlite", "z.parquet", "gone"):
        with pytest.raises(StageFailed) as failed:
            list(source(tmp_path, path=tmp_path / name).units())
        assert failed.value.cause == Cause.DATA


def test_values_are_the_same_plain_json_from_each():
    moment = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert database.plain(moment) == "2026-01-02 01:00:00+00:00"
    from decimal import Decimal

    assert database.plain(Decimal("0.90")) == 0.9
    assert database.plain(Decimal("0.1234567890123456789")) == "0.1234567890123456789"
    assert database.plain({"a": [b"\x01", None, True]}) == {"a": ["01", None, True]}


def test_percent_signs_and_parameters_reach_postgres_as_they_are(dsn, tmp_path):
    query = (
        "SELECT id, '100%' AS instruction, reason AS output FROM profile_scores"
        " WHERE reason LIKE '%of 1%' AND scored_by IN :who AND scored_at::date > :since -- :not_one\n ORDER BY id"
    )
    found = rows(
        source(tmp_path, query=query, parameters={"who": list(TEACHERS[:1]), "since": "2025-01-01"})
    )
    assert found and {result.row.asked for result in found} == {"100%"}
    quiet = source(
        tmp_path,
        query="SELECT id, reason AS text FROM profile_scores WHERE reason LIKE '%1' ORDER BY id",
    )
    assert len(rows(quiet)) == 18
