"""Jobs: `/v1/jobs`."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from firstline.adapters.job_files import JobFolder
from firstline.adapters.parquet_files import ParquetUnusable
from firstline.bootstrap import App
from firstline.core.errors import (
    JOB_NOT_FOUND,
    MALFORMED_UPLOAD,
    TOO_MANY_JOBS,
    UNSUPPORTED_MEDIA_TYPE,
)
from firstline.core.identity import JOB, bare
from firstline.core.plans import MICROSECONDS
from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.job_results import MEDIA_TYPES, encoded
from firstline.delivery.http.own_settings_v1 import invalid, store_failed
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.uploads import FORMATS, Reading, UploadInvalid, Uploads, content_format, named_format
from firstline.ports.jobs import ACTIVE, Job, JobFilesLost, TooManyJobs
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.job_chunks import MAX_ROWS, TooManyRows, result_columns
from firstline.usecases.jobs import MAX_UNFINISHED, JobNotFound, Upload

PAGE: Final = 100
MAX_KEYED_UPLOAD_BYTES: Final = 32 << 20
"""Of an upload with an Idempotency-Key, whose body has to be known before it is begun."""

MAX_KEEP: Final = 50
MAX_NAME: Final = 200

_READING: Final = ("contract", "format", "column", "delimiter", "keep", "plan", "channel")
_LEAST_S: Final = 0.001
_Choice = TypeVar("_Choice", Contract, UserPlan, Channel)


class JobsV1:
    """Handlers of the routes of jobs."""

    def __init__(self, app: App, callers: Callers, *, folder: JobFolder) -> None:
        self._app = app
        self._callers = callers
        self._jobs = app.jobs
        self._folder = folder
        self._uploads = Uploads()

    async def create(self, request: Request) -> Response:
        """Take rows in and work on them in the background."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        reading = _reading(request)
        options = {"keep": reading.keep}
        plan = self._callers.plan(caller, reading.contract)
        try:
            upload = await self._jobs.begin(caller.account.id, contract=reading.contract, plan=plan, options=options)
        except OSError:
            raise store_failed(self._app) from None
        try:
            job = await self._take(request, reading, upload)
        except BaseException:
            await asyncio.shield(self._jobs.abandon(upload))
            raise
        return json_reply(self._data(job), status=202, headers={"Location": f"/v1/jobs/{JOB}{job.id}"})

    async def list_jobs(self, request: Request) -> Response:
        """The jobs of the account, the newest first."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        given = _query(request, ("before", "limit"))
        before = bare(given["before"], prefix=JOB) if "before" in given else None
        if "before" in given and before is None:
            raise invalid("before", "before: must be the id of a job.")
        limit = given.get("limit", str(PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= PAGE):
            raise invalid("limit", f"limit: must be a whole number from 1 to {PAGE}.")
        try:
            found = await self._jobs.list(caller.account.id, before=before, limit=int(limit) + 1)
        except StorageUnavailable:
            raise store_failed(self._app) from None
        shown = found[: int(limit)]
        more = f"{JOB}{shown[-1].id}" if len(found) > len(shown) else None
        return json_reply({"jobs": [self._data(job) for job in shown], "next": more})

    async def job(self, request: Request) -> Response:
        """A job and how far it is."""
        _, job = await self._found(request)
        return json_reply(self._data(job))

    async def results(self, request: Request) -> Response:
        """The answers, those that are there by now."""
        _, job = await self._found(request)
        kind = _query(request, ("format",)).get("format", "ndjson")
        if kind not in MEDIA_TYPES:
            raise invalid("format", f"format: must be one of {', '.join(MEDIA_TYPES)}.")
        try:
            chunks = await self._jobs.results(job)
        except StorageUnavailable:
            raise store_failed(self._app) from None
        columns = result_columns(Contract(job.contract))
        try:
            parts = encoded(chunks, kind, columns=columns, keep=job.options.get("keep", ()))
        except ParquetUnusable as error:
            raise invalid("format", f"format: {error}") from None
        headers = {
            "Content-Disposition": f'attachment; filename="{JOB}{job.id}.{kind}"',
            "X-Job-State": job.state.value,
        }
        return StreamingResponse(self._sent(parts), 200, headers, MEDIA_TYPES[kind])

    async def cancel(self, request: Request) -> Response:
        """End a job; the answers that are there stay."""
        caller, job = await self._found(request)
        try:
            return json_reply(self._data(await self._jobs.cancel(job.id, account_id=caller.account.id)))
        except JobNotFound:
            raise ErrorReply(JOB_NOT_FOUND) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None

    async def delete(self, request: Request) -> Response:
        """End a job and forget it with its answers; what is in the history stays."""
        caller, job = await self._found(request)
        try:
            await self._jobs.delete(job.id, account_id=caller.account.id)
        except JobNotFound:
            raise ErrorReply(JOB_NOT_FOUND) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return Response(status_code=204)

    async def _take(self, request: Request, reading: Reading, upload: Upload) -> Job:
        try:
            await self._uploads.take(request, reading, upload.intake, whole=self._folder.upload(upload.job_id))
            if not upload.intake.rows:
                raise invalid("body", "The upload has no rows.")
            return await self._jobs.submit(upload)
        except UploadInvalid as error:
            if error.is_malformed:
                raise ErrorReply(MALFORMED_UPLOAD, f"The upload could not be read: {error}") from None
            raise invalid("body", str(error)) from None
        except TooManyRows:
            raise invalid("body", f"The upload has more than {MAX_ROWS:,} rows; split it.") from None
        except TooManyJobs:
            raise ErrorReply(
                TOO_MANY_JOBS, f"At most {MAX_UNFINISHED} jobs may be unfinished. {TOO_MANY_JOBS.advice}"
            ) from None
        except (StorageUnavailable, OSError):
            raise store_failed(self._app) from None

    async def _found(self, request: Request) -> tuple[Caller, Job]:
        caller = await uncharged(request, app=self._app, callers=self._callers)
        job_id = bare(request.path_params["job_id"], prefix=JOB)
        if job_id is None:
            raise ErrorReply(JOB_NOT_FOUND)
        try:
            return caller, await self._jobs.get(job_id, account_id=caller.account.id)
        except JobNotFound:
            raise ErrorReply(JOB_NOT_FOUND) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None

    async def _sent(self, parts: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Parts that are made in threads; an answer that has begun can only be cut off."""
        while True:
            try:
                part = await asyncio.to_thread(next, parts, None)
            except (JobFilesLost, OSError) as error:
                self._app.log.error("job_results_lost", problem=type(error).__name__)
                raise
            if part is None:
                return
            yield part

    def _data(self, job: Job) -> dict[str, Any]:
        rate = left = None
        if job.started_at_us is not None and job.done:
            until_us = job.finished_at_us or self._app.clock.now_us()
            rate = job.done / max((until_us - job.started_at_us) / MICROSECONDS, _LEAST_S)
            if job.state in ACTIVE and job.resumes_at_us is None:
                left = (job.rows - job.done) / rate
        return {
            "id": f"{JOB}{job.id}",
            "state": job.state.value,
            "contract": job.contract,
            "rows": job.rows,
            "done": job.done,
            "failed": job.failed,
            "needs_review": job.reviews,
            "rows_per_second": round(rate, 1) if rate else None,
            "seconds_left": round(left, 1) if left is not None else None,
            "created_at": iso(job.created_at_us),
            "started_at": iso(job.started_at_us) if job.started_at_us else None,
            "finished_at": iso(job.finished_at_us) if job.finished_at_us else None,
            "resumes_at": iso(job.resumes_at_us) if job.resumes_at_us else None,
        }


def _reading(request: Request) -> Reading:
    """How the query and the Content-Type say that rows are read.

    Raises: ErrorReply naming the parameter at fault; 415 when nothing names a format.
    """
    given = _query(request, _READING)
    contract = _choice(given, "contract", Contract, Contract.CLASSIFIER)
    kind = given.get("format") or content_format(request.headers.get("content-type", ""))
    if kind is None:
        raise ErrorReply(UNSUPPORTED_MEDIA_TYPE)
    if kind not in FORMATS:
        raise invalid("format", f"format: must be one of {', '.join(FORMATS)}.")
    delimiter = {"tab": "\t"}.get(given.get("delimiter", ""), given.get("delimiter"))
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise invalid("delimiter", "delimiter: must be one sign, or tab.")
    if delimiter is None and request.headers.get("content-type", "").startswith("text/tab-separated-values"):
        delimiter = "\t"
    keep = tuple(dict.fromkeys(name.strip() for name in given.get("keep", "").split(",") if name.strip()))
    if len(keep) > MAX_KEEP:
        raise invalid("keep", f"keep: may name at most {MAX_KEEP} columns.")
    if keep and kind == "txt":
        raise invalid("keep", "keep: needs columns; a message per line has none.")
    taken = [name for name in keep if name in result_columns(contract)]
    if taken:
        raise invalid("keep", f"keep: the results have a column {taken[0]} already.")
    return Reading(
        contract,
        named_format(kind),
        column=given.get("column"),
        delimiter=delimiter,
        keep=keep,
        plan=_choice(given, "plan", UserPlan, UserPlan.FREE),
        channel=_choice(given, "channel", Channel, Channel.EMAIL),
    )


def _query(request: Request, names: tuple[str, ...]) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise invalid("query", f"There is no such parameter here; there are {', '.join(names)}.")
        if name in given:
            raise invalid(name, f"{name}: may be given once.")
        if len(value) > MAX_KEEP * MAX_NAME or not value.isprintable():
            raise invalid(name, f"{name}: must be a printable text of at most {MAX_KEEP * MAX_NAME:,} characters.")
        given[name] = value
    return {name: value for name, value in given.items() if value}


def _choice(given: Mapping[str, str], name: str, choices: type[_Choice], default: _Choice) -> _Choice:
    if name not in given:
        return default
    with suppress(ValueError):
        return choices(given[name])
    raise invalid(name, f"{name}: must be one of {', '.join(choices)}.")
