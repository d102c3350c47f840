"""The policy desk: the pages of answers of each release that is kept, for those who sign in."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from sampan.desk.visit import Visit

RELEASE = re.compile(r"release_([0-9]{1,18})")
# The pages have their style inside.
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'none'"
)


def releases(visit: Visit) -> Response:
    """The releases whose pages are kept, the newest first."""
    folder = visit.config.answers
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder and folder.is_dir() else []
    found = sorted((int(match[1]) for name in names if (match := RELEASE.fullmatch(name))), reverse=True)
    return visit.page("answers.html", releases=found)


def page(visit: Visit) -> Response:
    """A file of a release: a page, a chart or a download."""
    folder = visit.config.answers
    path = str(visit.request.path_params["path"])
    if folder is None or "\0" in path or not RELEASE.fullmatch(path.partition("/")[0]):
        raise HTTPException(404)
    root = folder.resolve()
    file = (root / path).resolve()
    # What was made beside the pages, such as the rows that the next report compares with, begins with a dot.
    is_inside = file.is_relative_to(root) and not any(part.startswith(".") for part in file.relative_to(root).parts)
    if not (is_inside and file.is_file() and file.suffix in (".html", ".svg", ".csv", ".xlsx")):
        raise HTTPException(404)
    return FileResponse(file, headers={"content-security-policy": POLICY})
