"""`speechprompt push` and `push-base`: adapters, backbones and their parts to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import note, print_json, print_line, working
from ..options import JsonOption, given_options

_OF_SPACES = ("name", "title", "package", "vocoder")

RepositoryArgument = Annotated[
    str, typer.Argument(help="Where to: organisation/name on the Hub.", metavar="REPOSITORY", show_default=False)
]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
MessageOption = Annotated[str | None, typer.Option(help="First line of the commit.", show_default=False)]
BranchOption = Annotated[str | None, typer.Option(help="Another branch than main.", show_default=False)]
RequestOption = Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")]


def run(
    context: typer.Context,
    adapter: Annotated[
        Path, typer.Argument(help="The folder that train wrote; with --space also a Hub id.", show_default=False)
    ],
    repository: RepositoryArgument,
    base: Annotated[
        str | None,
        typer.Option(
            help="The backbone's repository, where the adapter names a folder or the backbone inside this package.",
            show_default=False,
        ),
    ] = None,
    base_revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the backbone.", show_default=False)
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Of the adapter, for the card: apache-2.0, cc-by-4.0, …", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Hub id of what it was trained on, for the card.", show_default=False)
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the recordings, for the card: en, de, …", show_default=False)
    ] = None,
    private: PrivateOption = False,
    message: MessageOption = None,
    branch: BranchOption = None,
    create_pr: RequestOption = False,
    space: Annotated[
        bool, typer.Option("--space", help="Push the page of speechprompt demo, as a Space, instead of the adapter.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="With --space, NAME=DIR: a further adapter.", show_default=False),
    ] = None,
    title: Annotated[str | None, typer.Option(help="With --space: the page's heading.", show_default=False)] = None,
    package: Annotated[
        str | None,
        typer.Option(
            help="With --space: how pip shall be told of this package, in requirements.txt; by default this version "
            "with its extra demo.",
            show_default=False,
        ),
    ] = None,
    vocoder: Annotated[
        str | None,
        typer.Option(
            "--vocoder",
            help="With --space, of adapters that answer with speech: what makes their units sound, a folder, which is "
            "uploaded with the page, or a Hub id. By default the one that an adapter's folder names.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Share an adapter on the Hub: a small repository that everything opens.

    Uploads the adapter, the verbalizer, the processor's settings and a card with the results, as one commit. The
    backbone is not uploaded but named, by repository and commit: publish it first with push-base. Log in with
    hf auth login.

    With --space it is a page on which anybody tries the adapter out: app.py, requirements.txt, the adapter itself, and
    recordings of its folder examples, if it has one. An adapter that answers with speech takes its vocoder along.
    """
    options: dict[str, Any] = {
        "base": base,
        "base_revision": base_revision,
        "license": license,
        "private": private or None,
        "message": message,
        "branch": branch,
        "create_pr": create_pr,
    }
    with working():
        _check_options(given_options(context), space)
        if space:
            from speechprompt_hf.demo.opening import named_adapters
            from speechprompt_hf.demo.space import push_space

            options |= {"package": package, "vocoder": vocoder}
            if title is not None:
                options["title"] = title
            done = push_space(named_adapters([str(adapter)], name or ()), repository, **options)
        else:
            from speechprompt_hf.hub.push import push_adapter

            done = push_adapter(adapter, repository, dataset=dataset, language=language, **options)
    _print(done, as_json)


def _check_options(given: list[str], space: bool) -> None:
    from speechprompt_hf.core.errors import ConfigurationError

    wrong = [option for option in (("dataset", "language") if space else _OF_SPACES) if option in given]
    if wrong:
        what = "is no option of a Space" if space else "is an option of Spaces alone"
        raise ConfigurationError(f"--{wrong[0]} {what}", hint="leave out --space" if space else "add --space")


def run_base(
    backbone: Annotated[
        str,
        typer.Argument(
            help="The folder that pretrain, quantize or convert wrote, or speechprompt-hf/tiny-hubert-km100-gslm for "
            "the one inside this package.",
            show_default=False,
        ),
    ],
    repository: RepositoryArgument,
    private: PrivateOption = False,
    message: MessageOption = None,
    branch: BranchOption = None,
    create_pr: RequestOption = False,
    as_json: JsonOption = False,
) -> None:
    """Share a backbone on the Hub, so that adapters trained on it can be shared.

    Uploads the language model, the encoder, the quantizer, the processor, the code that opens them where this package
    is not installed, and a card, as one commit. A folder that holds a part alone (an encoder, quantizer, processor or
    vocoder of convert) is published as that.
    """
    with working():
        from speechprompt_hf.hub.push_folder import push_folder

        done = push_folder(
            backbone,
            repository,
            private=private or None,
            message=message,
            branch=branch,
            create_pr=create_pr,
        )
    _print(done, as_json)


def _print(done: Any, as_json: bool) -> None:
    for sentence in done.kept:
        note(f"the card stays as it was edited: {sentence}")
    if as_json:
        print_json(
            {
                "repository": done.repo_id,
                "commit": done.commit,
                "url": done.url,
                "files": list(done.files),
                "bytes": done.num_bytes,
                "kept": list(done.kept),
            }
        )
    else:
        print_line(f"{done.repo_id}\t{done.commit}\t{len(done.files)} files\t{done.num_bytes / 1000:.0f} kB")
        print_line(done.url)
