"""Superset's configuration, read in its own environment. Secrets come from the program's environment and the people's file.

Who reads what is decided by the warehouse: every query runs in a session of the person's own login, which `people.json`
(mode 600) names. Superset has no login of its own there. See ADR 0044.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, jsonify, request, send_file
from flask_babel import get_locale
from sqlalchemy.engine.url import URL

SECRET_KEY = os.environ["SAMPAN_SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["SAMPAN_SUPERSET_DATABASE"]
PEOPLE = Path(os.environ["SAMPAN_SUPERSET_PEOPLE"])


def DB_CONNECTION_MUTATOR(  # noqa: N802
    uri: URL, params: dict[str, Any], username: str | None, _manager: Any, _source: Any
) -> tuple[URL, dict[str, Any]]:
    """The connection as the person's own login, and not as that of the stored address.

    Raises:
        SupersetGenericDBErrorException: the person, or Superset itself, has none; the page shows it.
    """
    # Superset reads this file while it is being imported.
    from superset.exceptions import SupersetGenericDBErrorException

    found = json.loads(PEOPLE.read_text(encoding="utf-8"))
    person = found["people"].get(username)
    if person is None:
        asked = username or "Superset itself"
        raise SupersetGenericDBErrorException(
            f"{asked} has no login on the warehouse: `make bi PERSON= READS=` makes one"
        )
    host, port, database = (found["warehouse"][key] for key in ("host", "port", "database"))
    own = URL.create("postgresql+psycopg2", person["login"], person["login_password"], host, port, database)
    return own, {**params, "connect_args": {"application_name": f"superset {username}"}}


# No answer is kept: what one person may read is not another's.
CACHE_CONFIG = DATA_CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}
SQLLAB_TIMEOUT = SUPERSET_WEBSERVER_TIMEOUT = 120
ROW_LIMIT, SQL_MAX_ROW = 10_000, 100_000

# People are made by `make bi`, and see what their role has; no one signs up.
AUTH_USER_REGISTRATION = False
PUBLIC_ROLE_LIKE = None
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_NAME = "sampan_superset"
PERMANENT_SESSION_LIFETIME = 12 * 3600
RATELIMIT_ENABLED = True
RATELIMIT_STORAGE_URI = "memory://"
ENABLE_CORS = False

APP_NAME = "Sampan"
LOGO = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='150' height='28'><text x='0' y='21' font-family='Helvetica, Arial, "
    "sans-serif' font-size='20' font-weight='700' fill='#1f4e79'>Sampan</text></svg>"
)
THEME_DEFAULT = {
    "token": {
        "brandAppName": APP_NAME, "brandLogoAlt": APP_NAME, "brandLogoUrl": f"data:image/svg+xml,{quote(LOGO)}",
        "brandLogoHref": "/dashboard/list/", "colorPrimary": "#1f4e79", "colorLink": "#1f4e79",
        "fontFamily": "Inter, Helvetica, Arial, 'PingFang HK', 'Microsoft JhengHei', 'Noto Sans CJK TC', sans-serif",
    },
    "algorithm": "default",
}  # fmt: skip
# Charts have the colours of the pages of answers (a test compares them).
COLOURS = ["#1f4e79", "#c05621", "#4c7a34", "#6b4c8a", "#8a6d1d", "#5f6b76", "#a23b5a", "#2b7a78"]
EXTRA_CATEGORICAL_COLOR_SCHEMES = [
    {"id": "sampan", "label": APP_NAME, "description": "", "isDefault": True, "colors": COLOURS}
]
BABEL_DEFAULT_LOCALE = "en"
LANGUAGES = {"en": {"flag": "gb", "name": "English"}, "zh_TW": {"flag": "hk", "name": "繁體中文"}}
D3_FORMAT: dict[str, Any] = {"currency": ["HK$", ""]}
THEME_DARK = None


def COMMON_BOOTSTRAP_OVERRIDES_FUNC(_data: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
    """The page's language with its place: Superset would ask for `zh`, which is simplified, when a person chose zh_TW."""
    chosen = get_locale()
    place = f"_{chosen.territory}" if chosen and chosen.territory else ""
    return {"locale": f"{chosen.language}{place}" if chosen else BABEL_DEFAULT_LOCALE}


# Babel calls zh_TW by its script, too: load.py puts Superset's own texts there under that name.
BABEL_TRANSLATION_DIRECTORIES = f"translations;{Path(os.environ['SUPERSET_HOME']) / 'translations'}"
FEATURE_FLAGS = {"ALERT_REPORTS": False, "EMBEDDED_SUPERSET": False, "THUMBNAILS": False}

# A browser asks this server alone: no maps, fonts, avatars or counters from outside.
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        "script-src": ["'self'", "'strict-dynamic'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
    "referrer_policy": "same-origin",
}


def FLASK_APP_MUTATOR(app: Flask) -> None:  # noqa: N802
    """Two requests of Superset's pages are answered otherwise.

    The page of a dashboard asks to store its colours; readers, who may not edit it, would see an error. Texts in Chinese are
    those that infra/local/superset.py corrected, if they are there.
    """
    chinese = Path(os.environ["SUPERSET_HOME"]) / "zh_TW.json"

    @app.before_request
    def say_it_in_traditional_chinese() -> Response | None:
        wanted = request.path.endswith("/language_pack/zh_TW/") and chinese.exists()
        return send_file(chinese, mimetype="application/json") if wanted else None

    @app.before_request
    def keep_colours() -> Response | None:
        wanted = (
            request.method == "PUT"
            and request.path.startswith("/api/v1/dashboard/")
            and request.path.endswith("/colors")
        )
        return jsonify(result="the colours are the bundle's") if wanted else None
