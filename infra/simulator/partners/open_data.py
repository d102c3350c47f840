"""Open data as the Government's and the United Nations' servers answer, with every way of saying no that they have.

An answer is (status, headers, body). The servers know what is out on the last day of the window: statistics of a month
come `lag_days` after its end.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote

import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.partners import csd, registers
from infra.simulator.world import World

Answer = tuple[int, dict[str, str], bytes]
LAG_DAYS = {"daily": 10, "monthly": 28}
BOM = b"\xef\xbb\xbf"
CODES_A_REQUEST, PACKAGES_A_PAGE = 20, 1000
HKHS_FILE = "/en/data/stat_report/product/B2XX0023/att/B2XX0023{}XXXXB0100.csv"
# Data sets of the catalogue that the platform itself reads, and more beside them.
KNOWN_PACKAGES = (
    ("hk-censtatd-tablechart-b2xx0023", "Hong Kong Imports and Exports Classification List", "hk-censtatd", "CSV"),
    ("hk-censtatd-tablechart-645-95008", "Insured export value of major products", "hk-censtatd", "JSON"),
    ("hk-censtatd-tablechart-410-50001", "Merchandise trade", "hk-censtatd", "JSON"),
    ("hk-censtatd-trade-idds-trade", "Trade-IDDS", "hk-censtatd", "API"),
    ("hk-cr-crdata-list-addr", "Live local companies", "hk-cr", "API"),
    ("hk-hkma-t06-t06041er-eeri-daily", "Exchange rates and effective exchange rate indices", "hk-hkma", "API"),
    ("hk-dpo-statistic-cal", "Hong Kong public holidays", "hk-dpo", "JSON"),
)
OTHER_PACKAGES = 240
# Share of the others that are withdrawn within 900 days, and what publishers announce.
WITHDRAWN = 0.1
ANNOUNCED = ("As needed", "As needed", "Monthly", "Quarterly", "Annually", "Daily")
# Planted: share of the companies that the Companies Registry does not list, and of those without a Chinese name on the
# business register that have one there.
UNLISTED, NAMED_ONLY_THERE = 0.03, 0.35


def _json(document: Any, status: int = 200, bom: bool = False) -> Answer:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return status, {"Content-Type": "application/json;charset=utf-8"}, (BOM if bom else b"") + body


def _draw(*labels: Any) -> float:
    """A number from 0 to 1 that depends on the labels alone."""
    digest = hashlib.sha256("\x1f".join(map(str, labels)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass
class OpenData:
    """The servers of one world. `sessions` are the cookies that Trade-IDDS gave out."""

    world: World
    publication: str = "daily"
    sessions: set[str] = field(default_factory=set)

    def answer(self, path: str, query: str, parameters: dict[str, str], cookies: dict[str, str]) -> Answer | None:
        """What the server of a path answers; None where no server has the path."""
        routes: tuple[tuple[str, Callable[..., Answer]], ...] = (
            (r"/api/get\.php", lambda: self._web_table(parameters)),
            (r"/api/get", lambda: self._greet(query)),
            (r"/api/([0-9a-f]{32})/get", lambda token: self._trade_idds(token, parameters, cookies)),
            (re.escape(HKHS_FILE).replace(r"\{\}", "([0-9]{4})"), lambda year: self._edition(int(year))),
            (r"/common/ical/(en|tc|sc)\.json", self._holidays),
            (r"/(?:en|tc|sc)-data/api/3/action/(\w+)", lambda action: self._ckan(action, parameters)),
            (r"/cr/api/api/v1/api_builder/json/local/search", lambda: self._companies(query, parameters)),
            (r"/public/v1/preview/C/M/HS", lambda: self._comtrade(parameters)),
        )
        for pattern, handler in routes:
            if match := re.fullmatch(pattern, path):
                return handler(*match.groups())
        return None

    @cached_property
    def months_out(self) -> list[str]:
        """Months whose statistics are published, the newest last."""
        lag = timedelta(days=LAG_DAYS[self.publication])
        return [month for month in csd.months(self.world) if csd.end_of(month) + lag <= self.world.last]

    # --- Census and Statistics Department ---

    def _status(self, name: str, code: int, *messages: str) -> dict[str, Any]:
        return {"status": {"name": name, "code": code, "message": list(messages)}, "title": "Synthetic statistics"}

    def _fail(self, message: str) -> Answer:
        return _json({"header": self._status("Fail", 1, message)})

    def _table(self, title: str, records: list[dict[str, Any]]) -> Answer:
        header = self._status("Success", 0) | {
            "title": title,
            "tablenote": "Synthetic data",
            "source": "Simulated Census and Statistics Department",
            "count": {"noOfRecords": len(records), "finished": True},
        }
        return _json({"header": header, "dataSet": records})

    def _web_table(self, parameters: dict[str, str]) -> Answer:
        if parameters.get("id") == "410-50001":
            return self._table("Merchandise trade", self._merchandise())
        if parameters.get("id") == "645-95008":
            return self._table("Insured export value of major products", self._insured())
        return self._fail("Table not found")

    def _merchandise(self) -> list[dict[str, Any]]:
        """Totals as numbers and as texts, provisional ones marked, the month to come without a figure."""
        figures = {(month, sv): figure for month, sv, figure in csd.totals(self.world).iter_rows()}
        known = csd.months(self.world)
        shown = known[: len(self.months_out) + 1]
        rows = []
        for month in shown:
            for sv in ("VAL_IM", "VAL_TX"):
                out, newest = month in self.months_out, month in self.months_out[-2:]
                figure: Any = figures.get((month, sv), 0) if out else ""
                if out and _draw("text", month, sv) < 0.3:
                    figure = f"{figure:,}"
                mark = ("p" if newest else "") if out else "n.y.a."
                rows.append(
                    {
                        "freq": "M",
                        "period": month,
                        "sv": sv,
                        "svDesc": "HK$ million",
                        "figure": figure,
                        "sd_value": mark,
                    }
                )
        yearly: dict[tuple[str, str], int] = {}
        for (month, sv), figure in figures.items():
            yearly[(month[:4], sv)] = yearly.get((month[:4], sv), 0) + figure
        for (year, sv), figure in yearly.items():
            rows.append(
                {"freq": "Y", "period": year, "sv": sv, "svDesc": "HK$ million", "figure": figure, "sd_value": ""}
            )
        return rows

    def _insured(self) -> list[dict[str, Any]]:
        rows = []
        table = csd.insured(self.world)
        for (year,), part in table.partition_by("year", as_dict=True).items():
            whole = {"product_code": "", "product": "Total", "figure": round(sum(part["figure"]), 1)}
            for row in [whole, *part.drop("year").to_dicts()]:
                rows.append(
                    {
                        "PRODUCT": row["product_code"],
                        "PRODUCTDesc": row["product"],
                        "freq": "Y",
                        "period": str(year),
                        "sv": "INS_VAL",
                        "svDesc": "HK$ million",
                        "figure": row["figure"] or "-",
                        # Revised until autumn, final from then on.
                        "sd_value": "p" if self.world.last < date(int(year), 10, 1) else "",
                    }
                )
        return rows

    def _greet(self, query: str) -> Answer:
        """Trade-IDDS redirects each client to an address of its own, with a cookie that it must send back."""
        token = hashlib.sha256(f"{self.world.seed} {query}".encode()).hexdigest()[:32]
        self.sessions.add(token)
        headers = {"Location": f"/api/{token}/get?{query}", "Set-Cookie": f"session={token}; Path=/; HttpOnly"}
        return 302, headers, b""

    def _trade_idds(self, token: str, parameters: dict[str, str], cookies: dict[str, str]) -> Answer:
        if cookies.get("session") not in self.sessions or token not in self.sessions:
            return self._fail("Session expired")
        codes = parameters.get("code", "").split(",")
        periods = parameters.get("period", "").split(",")
        undefined = next((month for month in periods if month > self.months_out[-1]), None)
        if undefined:
            return self._fail(f"Period code ({undefined}) is not defined")
        if len(codes) > CODES_A_REQUEST:
            return self._fail(f"Too many commodity codes: at most {CODES_A_REQUEST} a request")
        unknown = [code for code in codes if not re.fullmatch("0[1-9]|[1-8][0-9]|9[0-7]", code) or code == "77"]
        if unknown:
            return self._fail(f"Commodity code ({', '.join(unknown)}) is not defined")
        if parameters.get("codeclass") != "HKHS2" or parameters.get("ttype") not in tuple("1234"):
            return self._fail("Parameter is not supported")
        partner = parameters.get("cc") if parameters.get("ccclass") == "C" else None
        records = self.cells(parameters["ttype"], partner or "ALL", codes, periods[0], periods[-1])
        return self._table("Trade statistics", [self._cell(row, partner or "") for row in records])

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        found = csd.published(self.world).partition_by("flow", "partner", as_dict=True)
        return {(str(key[0]), str(key[1])): part.to_dicts() for key, part in found.items()}

    def cells(self, flow: str, partner: str, codes: list[str], first: str, last: str) -> list[dict[str, Any]]:
        """Published cells of a flow and partner (ALL: all of them together); nil ones are left out."""
        known = self._cells.get((flow, partner), [])
        return [
            row for row in known if row["chapter"] in codes and first <= row["month"] <= min(last, self.months_out[-1])
        ]

    def _cell(self, row: dict[str, Any], partner: str) -> dict[str, Any]:
        """A cell as published: now with commas, now as a number, a dash for less than half a unit, at times swapped."""
        place = (row["month"], row["flow"], row["chapter"], partner)
        value, unit = row["hkd_thousand"], "HK$'000"
        figure: Any = "-" if value == 0 else f"{value:,}" if _draw("comma", *place) < 0.4 else value
        if isinstance(figure, int) and _draw("text", *place) < 0.5:
            figure = str(figure)
        if value and _draw("swap", *place) < 0.02:
            figure, unit = unit, str(figure)
        names = {"1": "Imports", "2": "Domestic exports", "3": "Re-exports", "4": "Total exports"}
        return {
            "freq": "M", "period": row["month"], "ttype": row["flow"], "ttypeDescEN": names[row["flow"]], "co": "",
            "coDescEN": "", "cc": partner, "ccDescEN": partner, "codeclass": "HKHS2", "code": row["chapter"],
            "codeDescEN": f"Chapter {row['chapter']}", "sv": "VCm", "figure": figure, "unitEN": unit,
            "cellfootnoteEN": "",
        }  # fmt: skip

    def _edition(self, year: int) -> Answer:
        body = edition_file(year)
        return (200, {"Content-Type": "text/csv"}, body) if year <= self.world.last.year else _not_found()

    # --- 1823, DATA.GOV.HK ---

    def _holidays(self, language: str) -> Answer:
        events = [
            {
                "dtstart": [day.strftime("%Y%m%d"), {"value": "DATE"}],
                "dtend": [(day + timedelta(days=1)).strftime("%Y%m%d"), {"value": "DATE"}],
                "transp": "TRANSPARENT",
                "uid": f"{day:%Y%m%d}@1823.gov.hk",
                "summary": name,
            }
            for day, name in holidays(self.world, language)
        ]
        calendar = {"prodid": "-//1823 Call Centre//Hong Kong Public Holidays//EN", "version": "2.0", "vevent": events}
        return _json({"vcalendar": [calendar]}, bom=True)

    def _ckan(self, action: str, parameters: dict[str, str]) -> Answer:
        known = packages(self.world)
        if action == "package_search":
            size, start = int(parameters.get("rows", 10)), int(parameters.get("start", 0))
            if size > PACKAGES_A_PAGE:
                return _json({"code": "422", "message": f"rows: at most {PACKAGES_A_PAGE}"}, 422, bom=True)
            result = {"count": len(known), "sort": "name asc", "results": known[start : start + size]}
            return _json({"help": "synthetic", "success": True, "result": result}, bom=True)
        if action == "package_show":
            found = next((package for package in known if package["name"] == parameters.get("id")), None)
            if found:
                return _json({"help": "synthetic", "success": True, "result": found}, bom=True)
        return _json({"code": "422", "message": "Not a valid resource"}, 422, bom=True)

    # --- Companies Registry ---

    def _companies(self, query: str, parameters: dict[str, str]) -> Answer:
        brn = parameters.get("query[0][key3]", "")
        sound = parameters.get("query[0][key1]") == "Brn" and parameters.get("query[0][key2]") == "equal"
        # Brackets are taken as they are only.
        if "query[0][key1]" not in query or not sound or not re.fullmatch("[0-9]{8}", brn):
            return _json({"status": 400, "message": "Invalid requested Input Value."}, 400)
        found = self.companies.get(brn)
        if found is None:
            return _json({"status": 400, "message": "No result found."}, 400)
        return _json([found])

    @cached_property
    def companies(self) -> dict[str, dict[str, Any]]:
        """What the Companies Registry knows of the companies, by business registration number."""
        smes = self.world.population.smes.filter(pl.col("legal_form") == "company")
        listed = {}
        for row in smes.iter_rows(named=True):
            if _draw(self.world.seed, "unlisted", row["brn"]) < UNLISTED:
                continue
            chinese = row["name_zh"]
            if chinese is None and _draw(self.world.seed, "named", row["brn"]) < NAMED_ONLY_THERE:
                chinese = f"{row['brand_zh']}有限公司"
            listed[row["brn"]] = {
                "Brn": row["brn"],
                "English_Company_Name": row["name_en"].upper() if row["name_en"] else None,
                "Chinese_Company_Name": chinese,
                "Address_of_Registered_Office": "Synthetic address, Hong Kong",
                "Company_Type": "Private company limited by shares",
                "Date_of_Incorporation": str(row["commenced_on"]),
                "Re-domiciliation_Date": None,
            }
        return listed

    # --- UN Comtrade ---

    def _comtrade(self, parameters: dict[str, str]) -> Answer:
        if parameters.get("reporterCode") != "156" or parameters.get("partnerCode") != "344":
            return _json({"elapsedTime": "0.1 secs", "count": 0, "data": [], "error": ""})
        data = [
            {
                "typeCode": "C", "freqCode": "M", "refPeriodId": int(f"{row['month']}01"), "period": row["month"],
                "refYear": int(row["month"][:4]), "refMonth": int(row["month"][4:]), "reporterCode": 156,
                "reporterISO": "CHN", "flowCode": "M", "partnerCode": 344, "partnerISO": "HKG",
                "classificationCode": "H6", "cmdCode": row["chapter"], "cmdDesc": f"Chapter {row['chapter']}",
                "aggrLevel": 2, "customsCode": "C00", "motCode": 0, "qty": 0, "cifvalue": row["value_usd"],
                "fobvalue": None, "primaryValue": row["value_usd"], "isReported": False, "isAggregate": True,
            }
            for row in self.mirrored(parameters.get("period", ""))
        ]  # fmt: skip
        return _json({"elapsedTime": "0.1 secs", "count": len(data), "data": data, "error": ""})

    def mirrored(self, month: str) -> list[dict[str, Any]]:
        """What the Mainland reports for a month; nothing while it is not out."""
        if not csd.is_mirrored(self.world, month):
            return []
        if "mirror" not in self.world.kept:
            self.world.kept["mirror"] = csd.mirror(self.world)
        found: list[dict[str, Any]] = self.world.kept["mirror"].filter(month=month).to_dicts()
        return found

    # --- what comes of asking as the contracts say ---

    def expected(self, feed: str, day: date) -> int:
        """Records that a feed's API has when it is asked as of a day."""
        newest = min(csd.month_of(day), self.months_out[-1])
        span = [month for month in self.months_out if _months_before(newest, 13) <= month <= newest]
        counts: dict[str, Callable[[], int]] = {
            "csd_trade_statistics": lambda: (
                2 * (len(self.months_out) + 1)
                + sum(
                    len(self.cells(flow, partner, [f"{n:02}" for n in range(1, 98)], span[0], span[-1]))
                    for flow in "1234"
                    for partner in ("ALL", *(market[1] for market in words.MARKETS))
                )
            ),
            "csd_insured_exports": lambda: len(self._insured()),
            "comtrade_mirror_imports": lambda: sum(
                len(self.mirrored(_months_before(csd.month_of(day), back))) for back in range(1, 15)
            ),
            "hkhs_codes": lambda: len(csd.edition(day.year)),
            "hk_public_holidays": lambda: 2 * len(holidays(self.world, "en")),
            "datagovhk_catalogue": lambda: len(packages(self.world)),
            "companies_registry": lambda: len(self._looked_up(day) & self.companies.keys()),
        }
        return counts[feed]()

    def _looked_up(self, day: date) -> set[str]:
        """Companies that the business register delivered as live and changed in the 45 days before."""
        if "register" not in self.world.kept:
            self.world.kept["register"] = list(registers.business_register(replace(self.world, since=None)))
        frames = [frame for delivered, frame in self.world.kept["register"] if delivered <= day]
        changed = pl.concat(frames).filter(
            (pl.col("legal_form") == "company")
            & (pl.col("status") == "live")
            & (pl.col("branch_no") == "000")
            & (pl.col("changed_on") > day - timedelta(days=45))
            & pl.col("brn").str.contains("^[0-9]{8}$")
        )
        return set(changed["brn"])


def _months_before(month: str, count: int) -> str:
    number = int(month[:4]) * 12 + int(month[4:]) - 1 - count
    return f"{number // 12}{number % 12 + 1:02}"


def _not_found() -> Answer:
    return 404, {"Content-Type": "text/html"}, b"<html><body>404 Not Found</body></html>"


def edition_file(year: int) -> bytes:
    """The official file of a year's edition, byte order mark and all."""
    rows, out = csd.edition(year), io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return BOM + out.getvalue().encode()


def holidays(world: World, language: str) -> list[tuple[date, str]]:
    """General holidays from the year before the first day of the world to the one after the last, with their names."""
    import holidays as library

    kinds = ("public", "optional")
    years = range(world.first.year - 1, world.last.year + 2)
    names = {"en": "en_HK", "tc": "zh_HK", "sc": "zh_CN"}
    return sorted(library.country_holidays("HK", years=years, categories=kinds, language=names[language]).items())


def packages(world: World) -> list[dict[str, Any]]:
    """Data sets of the catalogue by name: those that the platform reads, and others; some of these are withdrawn in time.

    How often a set is published is drawn apart from how often its publisher says that it is, so that some are stale.
    """
    others = [
        (f"hk-synthetic-dataset-{number:03}", f"Synthetic data set {number}", f"hk-dept{number % 17:02}", "CSV")
        for number in range(OTHER_PACKAGES)
    ]
    found = []
    withdrawn = {
        name
        for name, *_ in others
        if _draw(world.seed, "withdrawn", name) < WITHDRAWN
        and world.first + timedelta(days=int(_draw(world.seed, "until", name) * 900)) <= world.last
    }
    for name, title, publisher, kind in sorted([*KNOWN_PACKAGES, *others]):
        if name in withdrawn:
            continue
        # Each is published again after so many days, from its creation to now; of some that is years.
        announced = ANNOUNCED[int(_draw(world.seed, "announced", name) * len(ANNOUNCED))]
        age, every = int(_draw(world.seed, name) * 700), 1 + int(_draw(world.seed, "every", name) ** 3 * 1500)
        created = world.first - timedelta(days=age + 400)
        modified = created + timedelta(days=(world.last - created).days // every * every)
        resources = [
            {"created": f"{created}T08:00:00.000000", "dateCreated": created.strftime("%d-%m-%Y"), "format": form,
             "datePublished": modified.strftime("%d-%m-%Y"), "url": f"https://data.example/{quote(name)}.{form.lower()}"}
            for form in ([kind, "XLSX"] if age % 3 == 0 else [kind])
        ]  # fmt: skip
        found.append(
            {
                "name": name, "title": title, "maintainer": publisher, "license": None, "groups": [],
                "metadata_modified": f"{modified}T01:30:00.000000", "update_frequency": announced,
                "organization": {"name": publisher}, "resources": resources,
            }
        )  # fmt: skip
    return found
