"""What the providers take for a JSON schema of a reply, as their documentation says it."""

from typing import Any


def refuse_loose_schema(schema: Any, where: str, *, all_required: bool) -> str | None:
    """What structured outputs of both providers refuse: objects that are open, and bounds that a grammar cannot hold.

    Sources: platform.claude.com/docs/en/build-with-claude/structured-outputs and developers.openai.com/api/docs/guides/structured-outputs.
    """
    if not isinstance(schema, dict):
        return f"{where}: not a schema"
    kinds = schema.get("type")
    if not kinds and "anyOf" not in schema and "enum" not in schema:
        return f"{where}: a schema needs a type"
    for name in ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "maxItems", "uniqueItems"):
        if name in schema:
            return f"{where}: '{name}' is not supported"
    if kinds == "object":
        if schema.get("additionalProperties") is not False:
            return f"{where}: 'additionalProperties' is required to be supplied and to be false"
        properties = schema.get("properties", {})
        if all_required and set(schema.get("required", ())) != set(properties):
            return f"{where}: 'required' is required to be supplied and to include every key in properties"
        for name, each in properties.items():
            if wrong := refuse_loose_schema(each, f"{where}.{name}", all_required=all_required):
                return wrong
    if kinds == "array":
        return refuse_loose_schema(schema.get("items"), f"{where}[]", all_required=all_required)
    return None
