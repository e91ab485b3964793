"""`flywheel backup` and `flywheel restore`: the stack's durable state, out to a folder or bucket and back."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import CliError
from cli.home import Home
from cli.local_stack import stack_settings

if TYPE_CHECKING:
    from store.backup.manifest import Manifest

Place = Annotated[str, typer.Argument(help="A folder, or an URL such as s3://bucket/2026-11-26.")]


def backup(place: Place) -> None:
    """Copy the database's rows and the artifacts that they name to an empty place, while everything runs."""
    from cli.key_store import open_database
    from store.artifacts import ArtifactStore
    from store.backup.making import BackupExists, make_backup
    from store.database import UnknownRevision
    from store.keys import pepper_mark

    settings = stack_settings(Home.find())
    mark = pepper_mark(settings.auth.pepper.get_secret_value())
    with open_database(settings) as database:
        try:
            made = make_backup(database, ArtifactStore(settings.artifacts_url), ArtifactStore(place), pepper_mark=mark)
        except (BackupExists, UnknownRevision) as error:
            raise CliError(str(error), advice="Name a place that is empty, and a database that is not.") from None
        except OSError as error:
            advice = "The backup is not complete. Delete what there is of it, and run it again."
            raise CliError(f"The backup's place or the artifact store: {error}.", advice=advice) from None
    typer.echo(f"{place} holds {_describe(made)}.")
    typer.echo("  Keep FLYWHEEL_AUTH__PEPPER elsewhere: no key is good without it, and it is not in the backup.")
    for lost in made.lost:
        typer.echo(f"  {lost.path} is {lost.reason} in the artifact store.", err=True)
    if made.lost:
        raise typer.Exit(1)


def restore(place: Place) -> None:
    """Take a backup into an empty database, and its artifacts into the artifact store. Stop all services first."""
    from cli.key_store import open_database
    from store.artifacts import ArtifactStore
    from store.backup.copying import BackupDamaged
    from store.backup.manifest import NoBackup
    from store.backup.restoring import restore_backup
    from store.backup.tables import DatabaseNotEmpty
    from store.database import UnknownRevision
    from store.keys import pepper_mark

    settings = stack_settings(Home.find())
    with open_database(settings) as database:
        try:
            taken = restore_backup(ArtifactStore(place), database, ArtifactStore(settings.artifacts_url))
        except DatabaseNotEmpty as error:
            raise CliError(str(error), advice="FLYWHEEL_DATABASE_URL must name an empty one.") from None
        except (NoBackup, BackupDamaged, UnknownRevision) as error:
            raise CliError(str(error), advice="Nothing was restored.") from None
        except OSError as error:
            advice = "The database is as empty as before. Run it again."
            raise CliError(f"The backup's place or the artifact store: {error}.", advice=advice) from None
    typer.echo(f"Restored {_describe(taken)}.")
    for lost in taken.lost:
        typer.echo(f"  {lost.path} was {lost.reason} when the backup was made.", err=True)
    if taken.pepper_mark != pepper_mark(settings.auth.pepper.get_secret_value()):
        typer.echo("  FLYWHEEL_AUTH__PEPPER is not the one of the backup: none of its keys is good.", err=True)


def _describe(manifest: "Manifest") -> str:
    rows, artifacts = sum(table.rows for table in manifest.tables), manifest.artifacts
    mib = sum(content.bytes for content in (*manifest.tables, *artifacts)) / (1 << 20)
    return f"{rows:,} rows and {len(artifacts):,} artifacts, {mib:,.1f} MiB"
