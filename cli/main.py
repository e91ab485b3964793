"""`flywheel …`: every command, and how an error of any of them is shown."""

from typing import Any

import typer
from typer.core import TyperGroup

from cli.commands import (
    aliases,
    backup,
    bench,
    chat,
    config,
    dataset,
    down,
    evaluate,
    finetune,
    jobs,
    keys,
    models,
    optimise,
    plan,
    release,
    status,
    tenants,
    top,
    up,
)
from cli.errors import CliError


class FlywheelGroup(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            typer.secho(f"error: {error.message}", fg="red", err=True)
            if error.advice:
                typer.echo(f"  {error.advice}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=FlywheelGroup,
    help="Serve your own language models behind the OpenAI API, and improve them in the same stack.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
app.command("down")(down.down)
app.command("status")(status.status)
app.command("config")(config.config)
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(models.app, name="models")
app.command("chat")(chat.chat)
app.command("finetune")(finetune.finetune)
app.add_typer(aliases.app, name="aliases")
app.add_typer(release.app, name="release")
app.add_typer(jobs.app, name="jobs")
app.add_typer(dataset.app, name="dataset")
app.add_typer(evaluate.app, name="eval")
app.command("top")(top.top)
app.command("bench")(bench.bench)
app.command("plan")(plan.plan)
app.command("optimise")(optimise.optimise)
app.add_typer(optimise.app, name="studies")
