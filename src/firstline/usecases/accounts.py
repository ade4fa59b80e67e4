"""Accounts: registering one, and an operator's creation of keys and plans."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firstline.core.api_key import KeyKind, Scope, format_key, hash_of, hint_of
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock, Identities
from firstline.ports.journal import IdempotencyEntry
from firstline.ports.storage import Account, ApiKey, AuditEntry, EmailTaken, Storage

FREE: Final = "free"
MAX_EMAIL_LENGTH: Final = 254

_EMAIL: Final = re.compile(
    r"[^@\s\x00-\x1f<>\"(),:;\\\[\]]{1,64}@[^@\s\x00-\x1f<>\"(),:;\\\[\]]+\.[^@\s.\x00-\x1f]{1,63}\Z"
)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the one moment when its secret is known."""

    secret: str
    key: ApiKey
    account: Account


KeepKey = Callable[[NewKey], IdempotencyEntry]
"""Makes the entry that keeps the answer to a request for a key, before the key is stored."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Creates accounts and their keys; every change leaves an audit entry."""

    storage: Storage
    clock: Clock
    identities: Identities

    async def register(self, email: str, *, actor: str, plan: str = FREE, keep: KeepKey | None = None) -> NewKey:
        """An account with its first key; another plan than the free one is the operator's to give.

        Raises: EmailTaken.
        """
        now_us = self.clock.now_us()
        account = self._new_account(email, now_us, classifier_plan=plan)
        new = self.new_key(account, name="default", kind=KeyKind.CLASSIFIER)
        audit = self.entry(actor, "account.register", account.id, target=f"key_{new.key.id}")
        await self.storage.add_account(account, new.key, audit, idempotency=keep(new) if keep else None)
        return new

    async def create_key(
        self,
        email: str,
        *,
        catalogue: Contract,
        plan: str,
        name: str,
        kind: KeyKind,
        actor: str,
        scope: Scope = Scope.TRIAGE,
        keep: KeepKey | None = None,
    ) -> NewKey:
        """A key for an e-mail address; its account is made if there is none, and moved to the plan."""
        account = await self.storage.find_account(email)
        if account is None:
            account = self._new_account(email, self.clock.now_us())
            try:
                audit = self.entry(actor, "account.create", account.id)
                await self.storage.add_account(account, None, audit)
            except EmailTaken:
                found = await self.storage.find_account(email)
                if found is None:
                    raise
                account = found
        if account.plans[catalogue] != plan:
            audit = self.entry(actor, "account.plan", account.id, detail={"catalogue": str(catalogue), "plan": plan})
            await self.storage.set_plan(account.id, catalogue, plan, audit)
            account = Account(
                account.id,
                account.email,
                account.created_at_us,
                {**account.plans, catalogue: plan},
                account.keep_text,
            )
        new = self.new_key(account, name=name, kind=kind, scope=scope)
        await self.storage.add_key(
            new.key,
            self.entry(actor, "key.create", account.id, target=f"key_{new.key.id}", detail={"scope": str(scope)}),
            idempotency=keep(new) if keep else None,
        )
        return new

    def new_key(self, account: Account, *, name: str, kind: KeyKind, scope: Scope = Scope.TRIAGE) -> NewKey:
        """A fresh key, not stored yet."""
        secret = format_key(kind, self.identities.new_secret())
        key = ApiKey(
            id=self.identities.new_id(),
            account_id=account.id,
            hash=hash_of(secret),
            hint=hint_of(secret),
            name=name,
            scope=scope,
            created_at_us=self.clock.now_us(),
            is_test=kind is KeyKind.TEST,
        )
        return NewKey(secret, key, account)

    def entry(
        self,
        actor: str,
        action: str,
        account_id: str | None,
        *,
        target: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> AuditEntry:
        """An audit entry of this moment."""
        return AuditEntry(
            id=self.identities.new_id(),
            at_us=self.clock.now_us(),
            actor=actor,
            action=action,
            account_id=account_id,
            target=target,
            detail=detail or {},
        )

    def _new_account(self, email: str, now_us: int, *, classifier_plan: str = FREE) -> Account:
        return Account(
            id=self.identities.new_id(),
            email=email,
            created_at_us=now_us,
            plans={Contract.CLASSIFIER: classifier_plan, Contract.DECISION: FREE},
        )


def valid_email(text: str) -> str | None:
    """The address, trimmed, or None when it is none.

    Checks the shape that mail systems share, not whether the mailbox exists.
    """
    email = text.strip()
    if len(email) > MAX_EMAIL_LENGTH or not email.isprintable() or not _EMAIL.match(email) or ".." in email:
        return None
    return email
