"""Why there is no backup or no restore; messages are sentences for people."""


class BackupFailed(Exception):
    """A backup cannot be made or restored."""


class ArchiveDamaged(BackupFailed):
    """A file is no backup, or not what it was when it was written."""
