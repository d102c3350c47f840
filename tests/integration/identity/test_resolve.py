"""Who is who: links of names against the simulator's truth, and what persons, late deliveries and reruns do to them."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import polars as pl
import psycopg
import pytest
from sampan.errors import PermanentFailure, TransientFailure
from sampan.identity import linkage, names, resolve, review, survivorship
from sampan.identity.linkage import NameRecord
from sampan.marts import build
from sampan.settings import settings

from infra.simulator import deliver, faults
from infra.simulator.population import make
from infra.simulator.shops import shops
from infra.simulator.world import World, periods
from tests.written import frequencies, written

START = date(2026, 7, 6)
TABLE = """
    create table staging.stg_ops__identity_names (
        source text, source_key text, name text, number text, number_basis text, registry_number text, merchant text,
        operator_uscc text, is_on_register boolean, is_stated boolean, stated_on date, batch_id bigint,
        business_date date, received_at timestamptz
    )
"""


@dataclass
class Warehouse:
    """The linkage's inputs without the feeds: names by batch, and builds that take batches in."""

    sampan: Any
    seen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def register(self, number: str, *called: str, registry_number: str | None = None) -> Warehouse:
        for name in called:
            self.rows.append(
                {"source": "number", "source_key": number, "name": name, "number": number, "is_on_register": True,
                 "registry_number": registry_number, "is_stated": True}
            )  # fmt: skip
        return self

    def applicant(self, number: str, name: str) -> Warehouse:
        self.rows.append({"source": "number", "source_key": number, "name": name, "number": number})
        return self

    def shop(self, key: str, name: str, **stated: Any) -> Warehouse:
        """A shop in the orders, or among the participants when anything is stated of it."""
        basis = "festival_registration" if stated else None
        self.rows.append(
            {"source": "shop", "source_key": key, "name": name, "number_basis": basis, "is_stated": bool(stated)}
            | stated
        )
        return self

    def batch(self, day: int = 0) -> Warehouse:
        """One batch of a business date with all rows since the last."""
        self.seen += 1
        with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
            business_date = START + timedelta(days=day)
            found = connection.execute(
                "insert into ops.batch (feed, business_date, content_sha256, source_uri, landing_uri, bytes,"
                " received_at, contract_version, state, rows_in, rows_published, rows_quarantined, rows_duplicate)"
                " values ('platform_orders', %s, %s, 's', 'l', 1, %s, '1', 'published', 1, 1, 0, 0)"
                " returning batch_id, received_at",
                [business_date, f"{self.seen:064x}", f"2026-08-01 00:00:{self.seen:02d}+08"],
            ).fetchone()
        assert found
        empty = {
            "number": None, "number_basis": "registration_number", "registry_number": None, "merchant": None,
            "operator_uscc": None, "is_on_register": False, "is_stated": False, "stated_on": business_date,
        }  # fmt: skip
        with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
            for row in self.rows:
                values = empty | row | {"batch_id": found[0], "business_date": business_date, "received_at": found[1]}
                connection.execute(
                    f"insert into staging.stg_ops__identity_names ({', '.join(values)})"
                    f" values ({', '.join(['%s'] * len(values))})",
                    list(values.values()),
                )
        self.rows = []
        return self

    def build(self, full_refresh: bool = False) -> dict[str, int]:
        """A build with every batch that waits, which is then released."""
        with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
            connection.execute(
                "insert into ops.build (as_of_date, full_refresh) values ('2026-08-14', %s)", [full_refresh]
            )
            connection.execute(
                "insert into ops.build_batch select open_build.build_no, batch_id from ops.batch, ops.open_build"
                " where batch_id not in (select batch_id from ops.batches_built)"
            )
            done = resolve.run()
            connection.execute("update ops.build set state = 'released', ended_at = now() where state = 'open'")
        return done

    def links(self) -> dict[str, tuple[Any, ...]]:
        query = "select source || ' ' || source_key, state, number, basis from ops.identity_link"
        return {key: tuple(rest) for key, *rest in self.sampan.rows(query)}

    def link(self, key: str) -> tuple[Any, ...]:
        return self.links()[f"shop {key}"]

    def proposals(self, state: str = "open") -> dict[tuple[str, str], int]:
        query = "select source_key, number, review_id from ops.identity_review where state = %s"
        return {(key, number): review_id for key, number, review_id in self.sampan.rows(query, state)}

    def survivors(self) -> dict[str, str]:
        return dict(self.sampan.rows("select number, survivor_number from ops.identity_survivor"))

    def all_state(self) -> tuple[Any, ...]:
        """All that a later build or a person sees, without times and numbers of builds."""
        return (
            self.sampan.rows(
                "select source, source_key, state, number, basis, round(probability::numeric, 9), evidence"
                " from ops.identity_link order by 1, 2"
            ),
            self.sampan.rows(
                "select source, source_key, number, reason, position, round(probability::numeric, 9), evidence"
                " from ops.identity_review where state = 'open' order by 1, 2, 3"
            ),
            self.sampan.rows("select sme_id, survives_as, basis from ops.identity_survivor order by 1"),
        )


@pytest.fixture
def known(sampan) -> Warehouse:
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute(TABLE)
    return Warehouse(sampan)


# --- precision and recall ---------------------------------------------------------------------------------------------


def _measured(seed: int, smes: int) -> dict[str, Counter[str]]:
    """By script pair: names in all, merged on their own, merged rightly, proposed, proposed with the truth in it.

    The register tells the Chinese name of nine in ten of those that have one.
    """
    population = make(seed, smes)
    register = {
        row["brn"]: {"en": row["name_en"], "zh": row["name_zh"] if row["sme_no"] % 10 or not row["name_en"] else None}
        for row in population.smes.iter_rows(named=True)
    }
    enterprises = [
        NameRecord(brn, name)
        for brn, called in register.items()
        for text in called.values()
        if text
        for name in names.parse(text)
    ]
    asked = list(written(seed, population.smes).select("brn", "script", "name", "corruption").iter_rows())
    stores = shops(World(seed, population, periods(START, 1)))
    asked += list(stores.select("brn", "name_script", "shop_name", "name_corruption").iter_rows())
    truth: dict[str, tuple[str, str]] = {}
    sources = []
    for at, (brn, script, text, corruption) in enumerate(asked):
        # A name in a script in which the register has none cannot be compared; a brand of its own neither.
        same = f"{script}-{script}" if register[brn][script] else "en-zh"
        truth[f"name {at}"] = (brn, "own_brand" if "own_brand" in corruption else same)
        sources += [NameRecord(f"name {at}", name) for name in names.parse(text)]
    found = defaultdict(list)
    for compared in linkage.score(sources, enterprises, frequencies(enterprises)):
        found[compared.entity].append(compared)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entity, (brn, scripts) in truth.items():
        outcome = linkage.decide(found[entity])
        across = any(c.number == outcome.number and c.scripts == "en-zh" for c in found[entity])
        counts[scripts]["names"] += 1
        counts[scripts]["merged"] += outcome.number is not None
        counts[scripts]["merged_across_scripts"] += across
        counts[scripts]["right"] += outcome.number == brn
        counts[scripts]["proposed"] += bool(outcome.proposals)
        counts[scripts]["truth_proposed"] += any(proposal.number == brn for proposal in outcome.proposals)
    return counts


@pytest.mark.parametrize(("seed", "smes"), [(20260706, 2000), (11, 1200)])
def test_names_are_linked_as_well_as_promised(seed, smes):
    counts = _measured(seed, smes)
    for scripts in ("en-en", "zh-zh"):
        of = counts[scripts]
        assert of["names"] > smes * 0.7
        assert of["right"] >= 0.995 * of["merged"], (scripts, of)
        assert of["right"] >= 0.95 * of["names"], (scripts, of)
    # Uncertain names are not merged: a name in another script is proposed to a person, an unknown brand is not.
    across = counts["en-zh"]
    assert across["names"] > smes * 0.05
    assert across["right"] == 0
    assert sum(of["merged_across_scripts"] for of in counts.values()) == 0
    assert across["truth_proposed"] >= 0.4 * across["names"]
    assert counts["own_brand"]["names"] >= 3
    # Wrong links of those count, too.
    merged, right = (sum(of[what] for of in counts.values()) for what in ("merged", "right"))
    assert right >= 0.995 * merged


def test_shops_of_a_simulated_window_are_linked_in_a_build(sampan, models_only, tmp_path):
    bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
    feeds = ["business_register", "festival_participants", "platform_orders"]
    outcome = deliver.run(
        bucket, seed=7, smes=1_300, start=START, days=2, faults=faults.NONE, feeds=feeds, truth=tmp_path / "truth"
    )
    sampan.ingest(*feeds)
    for step in ("staging", "identity"):
        build.run(step)
    shops = pl.read_parquet(outcome.truth / "shops.parquet")
    truth = {f"{platform}:{store}": brn for platform, store, brn in shops.select("platform", "store_id", "brn").rows()}
    linked = {
        key: (brn, basis)
        for key, brn, basis in sampan.rows(
            "select source_key, number, link_basis from intermediate.int_sme__linked as linked"
            " join intermediate.int_sme__numbered using (sme_id) where linked.source = 'shop'",
            role="builder",
        )
    }
    bases = Counter(basis for _, basis in linked.values())
    assert bases["festival_registration"] > 20
    assert bases["name"] > 20
    wrong = [key for key, (brn, basis) in linked.items() if truth[key] != brn]
    assert len(wrong) <= 0.005 * len(linked)
    states = dict(sampan.rows("select state, count(*) from ops.identity_link group by state"))
    assert states["linked"] == len(linked)
    assert states["review"] >= 3
    assert sampan.one("select count(*) - count(distinct sme_id) from build.dim_sme", role="builder") == 0


# --- what says who an entity is ---------------------------------------------------------------------------------------


def test_number_of_the_source_decides_before_the_name(known):
    known.register("90000001", "恒豐貿易有限公司").register("90000002", "睿衞穗國際有限公司")
    known.shop("jd:1", "恒丰贸易旗舰店", number="90000002", merchant="M1").shop(
        "jd:2", "恒丰贸易专营店"
    ).batch().build()
    assert known.link("jd:1") == ("linked", "90000002", "festival_registration")
    assert known.link("jd:2")[0] == "review", "the name is now that of two enterprises"


def test_shops_of_a_merchant_share_its_number_unless_it_has_several(known):
    known.register("90000001", "恒豐貿易有限公司").register("90000002", "睿衞穗國際有限公司")
    known.shop("jd:1", "甲旗舰店", number="90000001", merchant="M1").shop("tmall:1", "乙旗舰店", merchant="M1")
    known.shop("jd:2", "丙旗舰店", number="90000001", merchant="M2").shop(
        "jd:3", "丁旗舰店", number="90000002", merchant="M2"
    )
    known.shop("jd:4", "戊旗舰店", merchant="M2").batch().build()
    assert known.link("tmall:1") == ("linked", "90000001", "same_merchant")
    assert known.link("jd:4")[0] == "review"
    assert {number for key, number in known.proposals() if key == "jd:4"} == {"90000001", "90000002"}


def test_operator_tells_two_firms_of_one_brand_apart_only_if_its_code_is_sound(known):
    sound, broken = "91110000600037341L", "91110000600037341N"
    known.register("90000001", "恒豐貿易有限公司").register("90000002", "恒豐國際有限公司")
    known.shop("jd:1", "恒丰旗舰店", number="90000002", merchant="M1", operator_uscc=sound)
    known.shop("jd:2", "恒丰专营店", merchant="M2", operator_uscc=sound)
    known.shop("jd:3", "恒丰专营店", merchant="M3", operator_uscc=broken).batch().build()
    assert known.link("jd:2") == ("linked", "90000002", "name")
    assert known.link("jd:3")[0] == "review"
    told = known.sampan.rows("select source_key from ops.identity_entity where operator_uscc is not null order by 1")
    assert told == [("jd:1",), ("jd:2",)]


def test_same_operator_alone_links_nothing(known):
    sound = "91110000600037341L"
    known.register("90000001", "恒豐貿易有限公司")
    known.shop("jd:1", "恒丰旗舰店", number="90000001", merchant="M1", operator_uscc=sound)
    known.shop("jd:2", "睿卫穗旗舰店", merchant="M2", operator_uscc=sound).batch().build()
    assert known.link("jd:2") == ("unlinked", None, None)


def test_names_in_another_script_wait_for_a_person_unless_an_alias_says_so(known, tmp_path, monkeypatch):
    known.register("90000001", "Hang Fung Trading Limited").shop("jd:1", "恒丰贸易旗舰店").batch().build()
    assert known.link("jd:1")[0] == "review"
    for file in ("name_words.csv", "name_aliases.csv"):
        (tmp_path / file).write_bytes((names.SEEDS / file).read_bytes())
    with (tmp_path / "name_aliases.csv").open("a", encoding="utf-8") as file:
        file.write("hang_fung,恒豐,register of marks,2026-08-01\nhang_fung,Hang Fung,register of marks,2026-08-01\n")
    monkeypatch.setattr(names, "SEEDS", tmp_path)
    # With changed aliases every entity is linked again, without a new delivery.
    known.build()
    assert known.link("jd:1") == ("linked", "90000001", "name")
    assert known.proposals() == {}


# --- persons ----------------------------------------------------------------------------------------------------------


def test_decisions_survive_every_later_run(known):
    known.register("90000001", "恒豐貿易有限公司").register("90000002", "恒豐國際有限公司")
    known.shop("jd:1", "恒丰旗舰店").shop("jd:2", "恒丰贸易旗舰店").batch().build()
    assert known.link("jd:1")[0] == "review"
    assert known.link("jd:2") == ("linked", "90000001", "name")
    before = known.proposals()
    review.accept(before["jd:1", "90000002"], "invoice of July shows the number", "analyst")
    known.build()
    assert known.link("jd:1") == ("linked", "90000002", "decision")
    known.register("90000003", "恒豐實業有限公司").shop("jd:1", "恒丰官方旗舰店").batch(1).build()
    assert known.link("jd:1") == ("linked", "90000002", "decision")
    known.build(full_refresh=True)
    assert known.link("jd:1") == ("linked", "90000002", "decision")
    assert known.proposals("accepted") == {("jd:1", "90000002"): before["jd:1", "90000002"]}
    assert ("jd:1", "90000001") not in known.proposals()


def test_rejected_link_is_not_made_or_proposed_again(known):
    known.register("90000001", "恒豐貿易有限公司").shop("jd:1", "恒丰旗舰店").batch().build()
    ((pair, review_id),) = known.proposals().items()
    assert pair == ("jd:1", "90000001")
    review.reject(review_id, "another firm, by its licence", "analyst")
    known.build()
    assert known.link("jd:1") == ("unlinked", None, None)
    # Even a name that would merge on its own does not overrule a person, nor does a full refresh.
    known.shop("jd:1", "恒丰贸易旗舰店").batch(1).build()
    known.build(full_refresh=True)
    assert known.link("jd:1") == ("unlinked", None, None)
    assert known.proposals() == {}
    # A person may think again.
    review.accept(review_id, "the licence was out of date", "analyst")
    known.build()
    assert known.link("jd:1") == ("linked", "90000001", "decision")


def test_names_of_an_entity_count_for_the_enterprise_that_a_person_says_it_is(known):
    known.register("90000001", "Quill Moss Toys Limited").shop("jd:1", "睿卫穗旗舰店").batch().build()
    assert known.link("jd:1") == ("unlinked", None, None)
    review.decide("shop", "jd:1", "90000001", "same", "its page names the company", "analyst")
    known.shop("tmall:1", "睿卫穗海外专营店").batch(1).build()
    assert known.link("tmall:1") == ("linked", "90000001", "name")
    before = known.all_state()
    known.build(full_refresh=True)
    assert known.all_state() == before
    review.decide("shop", "jd:1", "90000001", "different", "the page was copied", "analyst")
    known.build()
    assert known.link("jd:1") == known.link("tmall:1") == ("unlinked", None, None)


def test_review_commands_show_and_decide(known):
    known.register("90000001", "恒豐貿易有限公司").shop("jd:1", "恒丰旗舰店").batch().build()
    ((_, review_id),) = known.proposals().items()
    listed = known.sampan.cli("identity", "review", "list")
    assert "恒丰旗舰店" in listed.stdout
    assert "恒豐貿易有限公司" in listed.stdout
    shown = known.sampan.cli("identity", "review", "show", str(review_id))
    assert "same brand" in shown.stdout
    assert known.sampan.cli("identity", "review", "accept", str(review_id), "--reason", " ").returncode == 1
    done = known.sampan.cli("identity", "review", "accept", str(review_id), "--reason", "seen the licence")
    assert done.returncode == 0, done.stderr
    known.build()
    assert known.link("jd:1") == ("linked", "90000001", "decision")
    assert known.sampan.one("select reason from ops.identity_decision") == "seen the licence"
    assert known.sampan.cli("identity", "review", "show", "99999").returncode == 1


def test_link_that_was_made_wrongly_is_undone_by_a_person(known):
    known.register("90000001", "恒豐貿易有限公司").register("90000002", "睿衞穗國際有限公司")
    known.shop("jd:1", "恒丰贸易旗舰店").shop("jd:2", "恒丰旗舰店", number="90000002", merchant="M1").batch().build()
    review.decide("shop", "jd:1", "90000001", "different", "another firm, by its licence", "analyst")
    review.decide("shop", "jd:2", "90000001", "same", "the organiser copied the wrong number", "analyst")
    known.build()
    assert known.link("jd:1") == ("unlinked", None, None)
    assert known.link("jd:2") == ("linked", "90000001", "decision")
    with pytest.raises(PermanentFailure, match="unknown shop jd:9: no feed has shown it"):
        review.decide("shop", "jd:9", "90000001", "same", "because", "analyst")
    with pytest.raises(PermanentFailure, match="unknown verdict 'perhaps'"):
        review.decide("shop", "jd:1", "90000001", "perhaps", "because", "analyst")


def test_decision_needs_a_reason_and_a_proposal(known):
    with pytest.raises(PermanentFailure, match="reason"):
        review.accept(1, "", "analyst")
    with pytest.raises(PermanentFailure, match="no proposal"):
        review.reject(1, "because", "analyst")


# --- merges and splits ------------------------------------------------------------------------------------------------


def test_dummy_number_becomes_the_enterprise_with_the_same_registry_number(known):
    known.register("C9000001", "恒豐貿易有限公司", registry_number="C9000001").batch().build()
    assert known.survivors() == {}
    known.register("90000007", "恒豐貿易有限公司", registry_number="C9000001").batch(1).build()
    assert known.survivors() == {"C9000001": "90000007"}
    assert known.sampan.rows("select sme_id, survives_as, basis from ops.identity_survivor") == [
        (survivorship.sme_id("C9000001"), survivorship.sme_id("90000007"), "registry_number")
    ]
    before = known.sampan.rows("select * from ops.identity_survivorship")
    known.build(full_refresh=True)
    assert known.sampan.rows("select * from ops.identity_survivorship") == before, "a rerun changes nothing"


def test_merge_by_a_person_can_be_undone_and_the_map_keeps_both(known):
    known.register("90000001", "恒豐貿易有限公司").applicant("90000010", "恒豐貿易有限公司").batch().build()
    ((pair, review_id),) = known.proposals().items()
    assert pair == ("90000010", "90000001"), "a number that the register does not know may be a slip of the pen"
    assert known.survivors() == {}
    review.accept(review_id, "the applicant wrote a wrong digit", "analyst")
    known.build()
    assert known.survivors() == {"90000010": "90000001"}
    review.reject(review_id, "the number was only new", "analyst")
    known.build()
    assert known.survivors() == {}
    (row,) = known.sampan.rows("select number, survivor_number, valid_to is not null from ops.identity_survivorship")
    assert row == ("90000010", "90000001", True)


def test_numbers_that_a_person_holds_apart_are_not_put_together_by_way_of_a_third(known):
    known.register("C9000001", "Quill Moss Toys Limited", registry_number="C9000001")
    known.register("90000001", "恒豐貿易有限公司", registry_number="C9000001").register(
        "90000002", "睿衞穗國際有限公司"
    )
    known.batch().build()
    assert known.survivors() == {"C9000001": "90000001"}
    review.decide("number", "90000001", "90000002", "different", "two firms", "analyst")
    review.decide("number", "C9000001", "90000002", "same", "its own certificate", "analyst")
    for _ in range(2):
        known.build()
        assert known.survivors() == {"C9000001": "90000002"}, "a person's word comes before the registry's"
        ((pair, review_id),) = known.proposals().items()
        assert pair == ("C9000001", "90000001")
    evidence = "registry_number, but 90000001 and 90000002 are held apart"
    assert review.get_proposal(review_id)["evidence"] == evidence
    review.decide("number", "90000001", "90000002", "same", "one firm after all", "analyst")
    known.build()
    assert known.survivors() == {"C9000001": "90000001", "90000002": "90000001"}
    assert known.proposals() == {}


# --- incremental, out of order, again ---------------------------------------------------------------------------------


def _deliveries(known: Warehouse) -> list[Any]:
    """Four days in which names come, change hands and become those of several."""

    def first(day):
        known.register("90000001", "恒豐貿易有限公司", "Hang Fung Trading Limited").register(
            "90000002", "睿衞穗國際有限公司"
        )
        known.shop("jd:1", "恒丰贸易旗舰店").shop("jd:2", "睿卫穗旗舰店").shop("jd:3", "Hang Fung旗舰店").batch(day)

    def second(day):
        known.register("90000003", "恒豐貿易行", "Quill Moss Toys Limited").shop("jd:4", "睿卫穗官方店").batch(day)

    def third(day):
        known.shop("jd:2", "睿卫穗旗舰店", number="90000001", merchant="M1")
        known.shop("jd:5", "快乐旗舰店", merchant="M1").applicant("90000009", "Quill Moss Toys Ltd").batch(day)

    def fourth(day):
        known.shop("jd:2", "睿卫穗旗舰店", number="90000003", merchant="M1").register("90000004", "睿衞穗貿易有限公司")
        known.shop("jd:6", "QUILL MOSS玩具旗舰店").batch(day)

    return [first, second, third, fourth]


def test_days_one_by_one_end_like_all_at_once(known):
    for day, step in enumerate(_deliveries(known)):
        step(day)
        known.build()
    one_by_one = known.all_state()
    known.build(full_refresh=True)
    assert known.all_state() == one_by_one
    links = known.links()
    assert links["shop jd:2"] == ("linked", "90000003", "festival_registration")
    assert links["shop jd:5"] == ("linked", "90000003", "same_merchant")
    assert {state for state, *_ in links.values()} == {"linked", "review"}


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 3, 0, 2)])
def test_order_of_deliveries_does_not_matter(known, order):
    steps = _deliveries(known)
    for day in order:
        steps[day](day)
        known.build()
    late = known.all_state()
    known.build(full_refresh=True)
    assert known.all_state() == late
    assert known.link("jd:2") == ("linked", "90000003", "festival_registration"), "the newest business date wins"
    assert known.link("jd:5") == ("linked", "90000003", "same_merchant")


def test_daily_run_looks_only_at_what_may_have_changed(known):
    for at, (character, other) in enumerate(zip("恒豐昌榮興隆泰裕盛福", "輝曜晞翀堃淼麒麟翹璟", strict=True)):
        known.register(f"9000001{at}", f"{character}{other}國際有限公司").shop(
            f"jd:{at}", f"{character}{other}国际旗舰店"
        )
    done = known.batch().build()
    assert (done["entities"], done["linked"]) == (10, 10)
    done = known.register("90000030", "寶福晉貿易有限公司").shop("jd:30", "宝福晋贸易旗舰店").batch(1).build()
    assert (done["names"], done["entities"], done["linked"]) == (2, 1, 1)
    done = known.register("90000031", "恒輝國際行").batch(2).build()
    assert (done["entities"], done["review"]) == (1, 1), "only the shop whose name is now that of two"
    assert known.build()["entities"] == 0


def test_killed_run_leaves_nothing_behind_and_the_next_does_its_work(known):
    known.register("90000001", "恒豐貿易有限公司").shop("jd:1", "恒丰贸易旗舰店").batch()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("insert into ops.build (as_of_date) values ('2026-08-14')")
        connection.execute("insert into ops.build_batch select 1, batch_id from ops.batch")
    code = "from sampan.identity import resolve; resolve.run()"
    killed = known.sampan.cli("-c", code, SAMPAN_FAILPOINT="identity.before_commit")
    assert killed.returncode == -signal.SIGKILL
    assert known.links() == {}
    assert resolve.run()["linked"] == 1
    before = known.all_state()
    resolve.run()
    assert known.all_state() == before, "a run that is done changes nothing"
    assert known.link("jd:1") == ("linked", "90000001", "name")


def test_run_of_a_builder_that_lost_its_claim_is_refused(known):
    known.register("90000001", "恒豐貿易有限公司").batch()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("insert into ops.build (as_of_date) values ('2026-08-14')")
        number = connection.execute("select build_no from ops.open_build").fetchone()[0]
        connection.execute("insert into ops.build_step (build_no, step, token) values (%s, 'identity', 2)", [number])
    with pytest.raises(TransientFailure, match="claimed by another worker"):
        resolve.run(f"{number}/identity/1")
    assert known.sampan.one("select count(*) from ops.identity_run") == 0
