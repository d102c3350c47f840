"""Bring Superset to the state that the platform's files describe; run in Superset's environment, again and again.

    python infra/bi/load.py BUNDLE.zip

Its metadata database is migrated, its roles and people are made, the bundle is imported, what only an earlier bundle had is
deleted, and each role gets the datasets that the bundle gives it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from superset.app import create_app

OWNER = "sampan"
# Superset's roles beside those of datasets: the reader looks, Gamma draws charts of its own too, sql_lab writes queries.
READER = "Sampan reader"
BASE = {"policy": (READER,), "analyst": ("Gamma", "sql_lab"), "bank": (READER,)}
# What a reader does not: everything by which Gamma makes or changes something.
CHANGES = (
    "can_write", "can_add", "can_delete", "can_edit", "can_update", "can_post", "can_import", "can_invalidate", "can_put",
    "can_bulk", "can_tag", "can_this_form", "muladd", "resetmypassword",
)  # fmt: skip

# What a reader finds in the menu, and what of Superset's own affairs it need not see.
MENU = {"Home", "Dashboards", "Charts", "Datasets", "Data"}
INNER = {"RowLevelSecurity", "user", "UserRegistrationsRestAPI", "SwaggerView", "OpenApi"}


def main() -> None:
    """Load the bundle that the first argument names."""
    app = create_app()
    with app.app_context():
        from flask_migrate import upgrade
        from superset.utils.core import override_user

        code = Path(sys.modules["superset"].__file__ or "").parent
        _name_chinese(code / "translations" / "zh_TW")
        upgrade(directory=str(code / "migrations"))
        app.appbuilder.add_permissions(update_perms=True)
        app.appbuilder.sm.sync_role_definitions()
        people = json.loads(Path(os.environ["SAMPAN_SUPERSET_PEOPLE"]).read_text(encoding="utf-8"))
        owner = _person(app.appbuilder.sm, OWNER, os.environ["SAMPAN_SUPERSET_PASSWORD"], ("Admin",))
        with override_user(owner):
            _import(Path(sys.argv[1]))
        _make_reader(app.appbuilder.sm)
        _grant(app.appbuilder.sm)
        known = {name: (entry["password"], entry["role"]) for name, entry in people["people"].items()}
        for name, (password, role) in known.items():
            _person(app.appbuilder.sm, name, password, (*BASE[role], f"Sampan {role}"))
        for user in app.appbuilder.sm.get_all_users():
            user.active = user.username in {OWNER, *known}
        from superset import db

        db.session.commit()


def _name_chinese(texts: Path) -> None:
    """Superset's texts in traditional Chinese under the name by which Babel looks for them."""
    link = Path(os.environ["SUPERSET_HOME"]) / "translations" / "zh_Hant_TW"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(texts)


def _person(manager: Any, name: str, password: str, roles: tuple[str, ...]) -> Any:
    """A user with exactly these roles and this password."""
    from werkzeug.security import check_password_hash

    found, wanted = manager.find_user(name), [manager.find_role(role) for role in roles]
    if found is None:
        return manager.add_user(name, name, "", f"{name}@localhost", wanted, password)
    found.roles = wanted
    if not check_password_hash(found.password, password):
        manager.reset_password(found.id, password)
    return found


def _import(bundle: Path) -> None:
    from superset import db
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.commands.importers.v1.utils import get_contents_from_bundle
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.dashboard import Dashboard
    from superset.models.slice import Slice

    with ZipFile(bundle) as archive:
        contents = get_contents_from_bundle(archive)
    ImportAssetsCommand(contents).run()
    import yaml

    kept = {yaml.safe_load(text).get("uuid") for text in contents.values()}
    for kind in (Dashboard, Slice, SqlaTable):
        for item in db.session.query(kind).filter(kind.is_managed_externally.is_(True)):
            if str(item.uuid) not in kept:
                db.session.delete(item)
    db.session.commit()


def _make_reader(manager: Any) -> None:
    """The role of those who only look: Gamma without what makes or changes something, or is Superset's own."""
    reader, kept = manager.add_role(READER), []
    for one in manager.find_role("Gamma").permissions:
        action, thing = one.permission.name, one.view_menu.name
        if not action.startswith(CHANGES) and thing not in INNER and (action != "menu_access" or thing in MENU):
            kept.append(one)
    reader.permissions = kept


def _grant(manager: Any) -> None:
    """Give each role the datasets that name it as reader, and the analyst the database, for SQL Lab."""
    from superset import db
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.core import Database

    granted: dict[str, list[Any]] = {role: [] for role in BASE}
    for dataset in db.session.query(SqlaTable).filter(SqlaTable.is_managed_externally.is_(True)):
        permission = manager.add_permission_view_menu("datasource_access", dataset.get_perm())
        for role in json.loads(dataset.extra or "{}").get("readers", ()):
            granted[role].append(permission)
    for database in db.session.query(Database).filter(Database.expose_in_sqllab.is_(True)):
        granted["analyst"].append(manager.add_permission_view_menu("database_access", database.perm))
    for role, permissions in granted.items():
        made = manager.add_role(f"Sampan {role}")
        made.permissions = permissions
    db.session.commit()


if __name__ == "__main__":
    main()
