"""The form ``wavtext5k-train plan``: what a recipe will cost, before it runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from curation.errors import exit_on_error
from training.cli import AsJson, Version

plan_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@plan_app.command(name="plan", epilog="Example: wavtext5k-train plan paper-d run.precision=bfloat16 --gpus 8")
def plan_command(
    recipe: Annotated[str, typer.Argument(help="A bundled recipe (paper-a to paper-d, tiny, ...), or a YAML file.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Overrides.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="That share each batch: torchrun's --nproc-per-node.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time real steps of the model, from random weights on random sound.")
    ] = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Say what a recipe will cost before it runs: data, steps, parameters, operations, memory and hours.

    Exit code 0 says that the plan could be made; what training would stop at, such as a manifest that is not there
    yet, is listed in it ("ready" in the JSON). 1: the model cannot be. 2: there is no such recipe or setting.
    """
    from training.cli import named_imports  # which dispatches to here
    from training.recipe import load_recipe

    with exit_on_error(), named_imports():
        config = load_recipe(recipe, settings or ())
        from training.plan import make_plan
        from training.plan_table import table

        plan = make_plan(config, processes=gpus, measure=measure)
        print(json.dumps(plan.as_dict()) if as_json else table(plan))
