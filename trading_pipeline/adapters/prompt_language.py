"""What a prompt may say: `{{ name }}`, `{{ personas.name }}`, `{% if name %}`, and nothing else.

A list of what is allowed, on top of Jinja2's sandbox: a prompt can neither call, loop, include nor multiply anything. What is used is
declared, what is declared is used, and the system part holds only what is ours (invariant 62).
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trading_pipeline.adapters.prompt_text import FrontMatter, Part, PromptFile, line_of, refused
from trading_pipeline.domain.prompts import OUTSIDE, SIGNAL_VARIABLES, Schema, allowed_in_system
from trading_pipeline.errors import PromptError

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

PERSONAS = "personas"
"""The folder of personas, and the name under which a prompt takes one in."""
MAX_DEPTH = 16
"""Of a template's tree: `{% if not name %}` is three."""
_VARIABLE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


def environment_of_prompts() -> "ImmutableSandboxedEnvironment":
    """Jinja2 without anything to call, filter or test with."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # No autoescaping: a model reads text, not HTML.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.globals.clear()
    environment.filters.clear()
    environment.tests.clear()
    return environment


def check_declared(file: PromptFile, matter: FrontMatter) -> None:
    """Refuse front matter that declares what there is not, or anything twice; PromptError."""
    for name in matter.variables:
        line = line_of(file, name)
        if not _VARIABLE.fullmatch(name) or name == PERSONAS:
            raise refused(file, line, f"{name!r} names no variable", "a variable has small letters, digits and _", f"rename {name}")
        if matter.schema_ is Schema.SIGNAL and name not in SIGNAL_VARIABLES:
            known = ", ".join(SIGNAL_VARIABLES)
            raise refused(file, line, f"there is no variable {name!r}", f"the variables of a signal prompt are {known}", "use one of them")
    shorts = [name.partition("/")[0] for name in matter.personas]
    dashed = next((name for name in shorts if "-" in name), None)
    if dashed is not None:
        raise refused(file, line_of(file, dashed), f"{dashed} cannot be taken in", "a persona's name has no dashes", "rename its folder")
    for names, what in ((matter.variables, "variable"), (shorts, "persona")):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise refused(file, line_of(file, twice), f"the {what} {twice} is declared twice", f"each {what} stands once", "remove one")


def used_in(
    environment: "ImmutableSandboxedEnvironment", file: PromptFile, part: Part, matter: FrontMatter, *, in_system: bool,
) -> set[str]:
    """The variables that a part uses, personas as `personas.name`; everything it may not say is refused."""
    from jinja2 import TemplateSyntaxError

    before, text = part
    try:
        said = list(_statements(environment.parse(text)))
    except RecursionError:
        raise _nested(file, before) from None
    except TemplateSyntaxError as error:
        line = before + error.lineno - 1
        raise refused(
            file, line, f"the template is wrong: {error.message}", "a prompt says {{ name }} and {% if name %} ... {% endif %}",
            "correct it",
        ) from None
    used: set[str] = set()
    for node, depth in said:
        line = before + node.lineno - 1
        if depth > MAX_DEPTH:
            raise _nested(file, line)
        name = _named(node)
        if name is None:
            raise refused(
                file, line, f"{type(node).__name__.lower()} has no place in a prompt",
                "a prompt says {{ name }}, {{ personas.name }} and {% if name %}, with else, not, and, or", "leave it out",
            )
        if not name:
            continue
        if not name.startswith(f"{PERSONAS}.") and name not in matter.variables:
            raise refused(
                file, line, f"{name} is used and not declared", "a prompt declares every variable it uses",
                f"add {name} to variables, or remove it",
            )
        if in_system and not name.startswith(f"{PERSONAS}.") and not allowed_in_system(matter.schema_, name):
            what = "words from outside" if name == OUTSIDE else "what a prompt of this schema is handed"
            raise refused(
                file, line, f"{name} stands in the system part", f"the system part is ours: {what} never stands there (invariant 62)",
                f"move {name} below ## user",
            )
        used.add(name)
    return used


def _statements(node: "nodes.Node", depth: int = 1) -> Iterator[tuple["nodes.Node", int]]:
    """Every node of a template and how deep it lies, what `personas.name` consists of as one."""
    from jinja2 import nodes

    for child in node.iter_child_nodes():
        yield child, depth
        if not isinstance(child, nodes.Getattr):
            yield from _statements(child, depth + 1)


def _nested(file: PromptFile, line: int) -> PromptError:
    return refused(file, line, "the template is nested too deeply", f"a prompt is nested {MAX_DEPTH} deep at most", "write it flatter")


def _named(node: "nodes.Node") -> str | None:
    """The variable that a node names, `personas.name` as such; empty for what names none, None for what is not allowed."""
    from jinja2 import nodes

    match node:
        case nodes.Name(name=name):
            return str(name) if name != PERSONAS else None
        case nodes.Getattr(node=nodes.Name(name=owner), attr=attr) if owner == PERSONAS:
            return f"{PERSONAS}.{attr}"
        case nodes.Output() | nodes.TemplateData() | nodes.If() | nodes.Not() | nodes.And() | nodes.Or():
            return ""
    return None


def check_used(file: PromptFile, matter: FrontMatter, used: set[str]) -> None:
    """Refuse what is declared and not used, and a persona that is used and not declared; PromptError."""
    for name in matter.variables:
        if name not in used:
            raise refused(
                file, line_of(file, name), f"{name} is declared and not used", "a prompt declares what it uses and no more",
                f"remove {name}",
            )
    declared = {f"{PERSONAS}.{name.partition('/')[0]}": name for name in matter.personas}
    for short, name in declared.items():
        if short not in used:
            raise refused(
                file, line_of(file, name), f"the persona {name} is declared and not used", "a prompt declares what it uses and no more",
                f"write {{{{ {short} }}}}, or remove it",
            )
    for name in sorted(used - declared.keys()):
        if name.startswith(f"{PERSONAS}."):
            raise refused(
                file, line_of(file, name), f"{name} is used and not declared", "a prompt declares every persona it takes in",
                f"add {name.partition('.')[2]}/v1 to personas",
            )
