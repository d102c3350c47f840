"""Open data of a release: what may be published as CSV, with a DCAT catalogue, and an ODCS contract for every mart.

Marts of the class publishable are published, read with the rights of `policy_reader`, who sees no enterprise.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from sampan import __version__
from sampan.contracts.derive import mart_models, to_yaml
from sampan.marts import disclosure, release
from sampan.report import answers
from sampan.report.words import raw
from sampan.settings import settings
from sampan.text import spreadsheet_text
from sampan.warehouse.roles import POLICY_READER, PUBLIC_READER

CATALOGUE = "catalogue.jsonld"
SYNTHETIC = "Synthetic: no enterprise, person or figure is real."
LOGICAL = {"boolean": "boolean", "date": "date", "integer": "integer", "bigint": "integer", "smallint": "integer"}
VOCABULARIES = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "spdx": "http://spdx.org/rdf/terms#",
}


@dataclass(frozen=True)
class Table:
    """A published table: its mart, and its CSV file."""

    model: dict[str, Any]
    file: Path


def write(folder: Path, found: answers.Answers) -> list[Path]:
    """Write `data/` and `contracts/` into the folder of a release. Returns the files."""
    data, contracts = folder / "data", folder / "contracts"
    data.mkdir()
    contracts.mkdir()
    models = mart_models()
    for model in models:
        (contracts / f"{model['name']}.odcs.yaml").write_text(to_yaml(contract(model)), encoding="utf-8")
    tables = _write_tables(data, found.release_no, models)
    whole = json.dumps(catalogue(tables, found), indent=2, ensure_ascii=False, default=str)
    (data / CATALOGUE).write_text(whole + "\n", encoding="utf-8")
    return sorted([*data.iterdir(), *contracts.iterdir()])


def published() -> list[str]:
    """Names of the marts that may be published."""
    return disclosure.readable_by(PUBLIC_READER)


def contract(model: dict[str, Any]) -> dict[str, Any]:
    """A mart's contract with those who read it, an ODCS document: what it has a row of, its columns and disclosure class."""
    name, description = model["name"], " ".join(model["description"].split())
    meta = model.get("config", {}).get("meta", {})
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": name,
        "name": name,
        "version": __version__,
        "status": "active",
        "domain": model["family"],
        "description": {
            "purpose": description,
            "usage": f"Read marts.{name}, or release_<number>.{name} where several statements have to agree.",
            "limitations": disclosure.class_of(name).sentence,
        },
        "schema": [
            {
                "name": name,
                "physicalName": f"marts.{name}",
                "physicalType": "view",
                "logicalType": "object",
                "dataGranularityDescription": description.split(". ")[0].rstrip(".") + ".",
                "properties": [_column(column, meta.get("primary_key") or []) for column in model["columns"]],
            }
        ],
        "customProperties": [{"property": "disclosure", "value": meta.get("disclosure")}],
    }


def catalogue(tables: list[Table], found: answers.Answers) -> dict[str, Any]:
    """The DCAT catalogue of the published tables, as JSON-LD. Addresses are relative to its own."""
    label = f" {SYNTHETIC}" if settings().synthetic else ""
    return {
        "@context": VOCABULARIES,
        "@type": "dcat:Catalog",
        "dct:title": f"Published tables of release {found.release_no}",
        "dct:description": "Trade, funding and festival figures of Hong Kong's enterprises that tell of no single one."
        + label,
        "dct:issued": found.released_at,
        "dct:language": ["en", "zh-Hant"],
        "dcat:dataset": [
            {
                "@type": "dcat:Dataset",
                "dct:identifier": table.model["name"],
                "dct:title": table.model["name"],
                "dct:description": " ".join(table.model["description"].split()) + label,
                "dct:issued": found.released_at,
                "dcat:version": str(found.release_no),
                "dcat:keyword": [table.model["family"]],
                "dct:conformsTo": {"@id": f"../contracts/{table.model['name']}.odcs.yaml"},
                "dcat:distribution": [_distribution(table.file)],
            }
            for table in tables
        ],
    }


def _distribution(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    return {
        "@type": "dcat:Distribution",
        "dcat:downloadURL": {"@id": file.name},
        "dcat:mediaType": "text/csv",
        "dcat:byteSize": len(content),
        "spdx:checksum": {
            "spdx:algorithm": "spdx:checksumAlgorithm_sha256",
            "spdx:checksumValue": hashlib.sha256(content).hexdigest(),
        },
    }


def _column(column: dict[str, Any], key: list[str]) -> dict[str, Any]:
    physical = column.get("data_type", "text")
    logical = LOGICAL.get(physical, "number" if physical.startswith(("numeric", "double")) else "string")
    logical = "timestamp" if physical.startswith("timestamp") else logical
    required = any(constraint.get("type") == "not_null" for constraint in column.get("constraints") or ())
    return {
        "name": column["name"],
        **({"primaryKey": True, "primaryKeyPosition": key.index(column["name"]) + 1} if column["name"] in key else {}),
        "physicalType": physical,
        "logicalType": logical,
        "required": required,
        "description": " ".join(column["description"].split()),
    }


def _write_tables(data: Path, release_no: int, models: Sequence[dict[str, Any]]) -> list[Table]:
    schema, tables, may_be_published = release.schemas_of(release_no)[0], [], published()
    with answers.reading(POLICY_READER) as connection:
        for model in (model for model in models if model["name"] in may_be_published):
            names = [column["name"] for column in model["columns"]]
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            query = sql.SQL("select {} from {} order by {}")
            rows = connection.execute(query.format(columns, sql.Identifier(schema, model["name"]), columns))
            file = data / f"{model['name']}.csv"
            with file.open("w", encoding="utf-8", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(names)
                for row in rows:
                    writer.writerow(
                        [spreadsheet_text(value) if isinstance(value, str) else raw(value) for value in row]
                    )
            tables.append(Table(model, file))
    return tables
