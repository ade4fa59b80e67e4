"""`firstline keys`: API keys, beside a running server or without one."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich.table import Table
from rich.text import Text

from firstline.adapters.plan_files import load_catalogues
from firstline.bootstrap_stores import DATABASE_NAME, open_accounts, place_of_database
from firstline.core.api_key import MAX_NAME_LENGTH, KeyKind, Scope, looks_like_key
from firstline.core.identity import ACCOUNT, KEY, bare
from firstline.core.taxonomy import Contract
from firstline.delivery.cli.terminal import FOUND_WRONG, Mistake, output, printable, say
from firstline.ports.storage import Account, ApiKey, KeyNotFound
from firstline.settings import Settings, load_settings
from firstline.usecases.accounts import FREE, Accounts, NewKey, valid_email

ACTOR: Final = "cli"
_NARROW_WIDTH: Final = 36 + 13 + 7 + 3 * 2
"""Columns of the narrow table beside the e-mail addresses."""


@dataclass(frozen=True, slots=True)
class NewKeyWish:
    """A key that is asked for.

    Attributes:
        plan: None leaves the account's plan as it is; free for a new account.
        catalogue: the contract that the plan is for.
        operator: whether the key may create keys and paid accounts.
        test: whether it is a test key.
    """

    email: str
    plan: str | None
    catalogue: Contract
    name: str
    operator: bool
    test: bool


def create_key(wish: NewKeyWish, *, as_json: bool, data_dir: Path | None) -> None:
    """Create a key and print it alone on the first line of standard output.

    Raises: Mistake, SettingsInvalid, CannotStart, StorageUnavailable.
    """
    email = valid_email(wish.email)
    if email is None:
        raise Mistake(f"'{printable(wish.email)}' is no e-mail address.")
    plans = load_catalogues()[wish.catalogue].plans
    if wish.plan is not None and wish.plan not in plans:
        raise Mistake(f"There is no plan '{printable(wish.plan)}'; the plans are {', '.join(plans)}.")
    name = wish.name.strip()
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise Mistake(f"--name takes 1 to {MAX_NAME_LENGTH} printable characters.")
    kind = _kind(wish)
    accounts, _ = open_accounts(load_settings(data_dir=data_dir))
    new = asyncio.run(_create(accounts, email, wish, name=name, kind=kind))
    plan = new.account.plans[wish.catalogue]
    if as_json:
        _print_json(
            {
                "key": new.secret,
                "key_id": f"{KEY}{new.key.id}",
                "account_id": f"{ACCOUNT}{new.account.id}",
                "email": new.account.email,
                "catalogue": wish.catalogue.value,
                "plan": plan,
                "scope": new.key.scope,
            }
        )
        return
    print(new.secret, flush=True)
    what = "An operator key" if wish.operator else "A test key" if wish.test else "A key"
    say(f"{what} for {new.account.email}, {plan} plan of the {wish.catalogue} catalogue. It is not shown again.")
    say(f"To revoke it: firstline keys revoke {KEY}{new.key.id}")


def _kind(wish: NewKeyWish) -> KeyKind:
    if wish.operator and wish.test:
        raise Mistake("A key is for an operator or for tests, not both.")
    if wish.operator:
        return KeyKind.OPERATOR
    if wish.catalogue is Contract.CLASSIFIER:
        if wish.test:
            raise Mistake("Test keys belong to the decision catalogue; add --catalogue decision.")
        return KeyKind.CLASSIFIER
    return KeyKind.TEST if wish.test else KeyKind.LIVE


async def _create(accounts: Accounts, email: str, wish: NewKeyWish, *, name: str, kind: KeyKind) -> NewKey:
    plan = wish.plan
    if plan is None:
        account = await accounts.storage.find_account(email)
        plan = account.plans[wish.catalogue] if account else FREE
    return await accounts.create_key(
        email,
        catalogue=wish.catalogue,
        plan=plan,
        name=name,
        kind=kind,
        actor=ACTOR,
        scope=Scope.OPERATE if wish.operator else Scope.TRIAGE,
    )


def list_keys(*, as_json: bool, data_dir: Path | None) -> None:
    """Print all keys.

    Raises: Mistake, SettingsInvalid, CannotStart, StorageUnavailable.
    """
    settings = load_settings(data_dir=data_dir)
    _require_database(settings)
    _, keys = open_accounts(settings)
    found = asyncio.run(keys.list_all())
    if as_json:
        _print_json({"keys": [_key_data(key, account) for key, account in found], "total": len(found)})
    elif found:
        _print_table(found)
    else:
        say("There are no keys yet; firstline keys create makes one.")


def revoke_key(key_id: str, *, data_dir: Path | None) -> None:
    """Revoke a key and say so.

    Raises: Mistake, SettingsInvalid, CannotStart, StorageUnavailable.
    """
    digits = bare(key_id.strip().lower(), prefix=KEY)
    if digits is None:
        if looks_like_key(key_id):
            raise Mistake("That is the key itself; give its id, which keys list shows: key_…")
        raise Mistake(f"'{printable(key_id)}' is no id of a key; keys list shows them: key_…")
    settings = load_settings(data_dir=data_dir)
    _require_database(settings)
    accounts, keys = open_accounts(settings)
    now_us = accounts.clock.now_us()
    try:
        key = asyncio.run(keys.revoke(digits, account_id=None, actor=ACTOR))
    except KeyNotFound:
        place = settings.data_dir if settings.database_url is None else place_of_database(settings)
        raise Mistake(f"There is no key {KEY}{digits} in {place}.", code=FOUND_WRONG) from None
    if key.revoked_at_us is not None and key.revoked_at_us < now_us:
        print(f"{key.hint} ({key.name}) was revoked on {_day(key.revoked_at_us)}; nothing changed.")
    else:
        print(f"Revoked {key.hint} ({key.name}); a running server refuses it within a second.")


def _require_database(settings: Settings) -> None:
    if settings.database_url is not None:
        return
    path = settings.data_dir / DATABASE_NAME
    if not path.exists():
        raise Mistake(f"There is no database at {path}; --data-dir says where it is.")


def _key_data(key: ApiKey, account: Account) -> dict[str, Any]:
    return {
        "id": f"{KEY}{key.id}",
        "account_id": f"{ACCOUNT}{account.id}",
        "email": account.email,
        "plans": {str(catalogue): plan for catalogue, plan in account.plans.items()},
        "name": key.name,
        "hint": key.hint,
        "scope": key.scope,
        "is_test": key.is_test,
        "is_active": key.revoked_at_us is None,
        "created_at": _iso(key.created_at_us),
        "last_used": _iso(key.last_used_at_us),
        "revoked_at": _iso(key.revoked_at_us),
        "requests_count": key.requests,
    }


def _print_table(found: Sequence[tuple[ApiKey, Account]]) -> None:
    console = output()
    wide = console.width >= 120
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True, min_width=36)
    table.add_column("key", no_wrap=True, min_width=13)
    room = None if wide else max(console.width - _NARROW_WIDTH, 6)
    table.add_column("e-mail", overflow="ellipsis", no_wrap=True, max_width=room)
    table.add_column("state", no_wrap=True, min_width=7)
    if wide:
        table.add_column("name", overflow="ellipsis", no_wrap=True)
        table.add_column("requests", justify="right", no_wrap=True)
        table.add_column("last used", no_wrap=True, min_width=10)
    for key, account in found:
        revoked = key.revoked_at_us is not None
        cells = [
            Text(f"{KEY}{key.id}"),
            Text(key.hint),
            Text(account.email),
            Text("revoked", "red") if revoked else Text("active", "green"),
        ]
        if wide:
            used = _day(key.last_used_at_us) if key.last_used_at_us else "never"
            cells += [Text(printable(key.name)), Text(f"{key.requests:,}"), Text(used)]
        table.add_row(*cells, style="dim" if revoked else None)
    console.print(table)


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(data).decode() + "\n")


def _iso(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d")
