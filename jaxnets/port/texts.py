"""Pieces of source text."""

import ast
import io
import re
import tokenize

#: Marks a name of the user's that is also a name of a library's.
MARK = "\ue000"


#: Takes the place of what is another text for each call.
CLASH = "\ue001"
LIBRARIES = ("jax", "jnp", "nnx", "layers", "lax", "np", "functional", "F", "tensors")


def flat(text: str) -> str:
    """A text on one line, without comments."""
    if "\n" not in text:
        return text
    if '"""' in text or "'''" in text:
        return text
    lines = []
    for line in text.split("\n"):
        if "#" in line:
            line = _without_comment(line)
        lines.append(line.strip())
    joined = " ".join(line for line in lines if line)
    return re.sub(r"([(\[{]) ", r"\1", re.sub(r",? ([)\]}])", r"\1", joined))


def _without_comment(line: str) -> str:
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type == tokenize.COMMENT:
                return line[: token.start[1]]
    except (tokenize.TokenError, IndentationError):
        match = re.search(r"#[^'\"]*$", line)
        return line[: match.start()] if match else line
    return line


def without_comments(text: str) -> str:
    """The text before a statement that goes: without the comments right above it."""
    lines = text.split("\n")
    while len(lines) > 1 and not lines[-1].strip() and len(lines) > 1:
        lines.pop()
        while lines and lines[-1].lstrip().startswith("#"):
            lines.pop()
        break
    return "\n".join(lines).rstrip(" ")


def same_tokens(one: str, other: str) -> bool:
    """Whether two texts differ by white space and last commas alone."""

    def tokens(text: str) -> str:
        return re.sub(r",(?=[)\]}])", "", re.sub(r"\s+", "", flat(text)))

    return tokens(one) == tokens(other)


def closing(text: str, start: int) -> int:
    """After the parenthesis that closes the one at ``start``."""
    depth, position = 0, start
    while position < len(text):
        char = text[position]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
        elif char == "#":
            position = text.index("\n", position)
        elif char in "\"'":
            quote = text[position : position + 3]
            quote = quote if quote in ('"""', "'''") else char
            position += len(quote)
            while not text.startswith(quote, position):
                position += 2 if text[position] == "\\" else 1
            position += len(quote) - 1
        position += 1
    raise ValueError("unbalanced")


def with_argument(text: str, argument: str) -> str:
    """A text that ends with a call's arguments in parentheses, and one more of them."""
    assert text.endswith(")"), text
    inside = text[:-1]
    body = inside.rstrip()
    lines = inside.split("\n")
    if body.endswith("("):
        return f"{body}{argument.removeprefix('*, ') if argument.startswith('**') else argument})"
    if len(lines) > 1 and not lines[-1].strip():  # a closing parenthesis on its own line
        last = next(line for line in reversed(lines) if line.strip())
        indent = last[: len(last) - len(last.lstrip())]
        comma = "" if body.endswith(",") else ","
        argument = argument.replace("*, ", f"*,\n{indent}")
        return f"{body}{comma}\n{indent}{argument},\n{lines[-1]})"
    return f"{body.removesuffix(',')}, {argument})"


def without_unused(text: str, column: int) -> str:
    """A function without assignments to variables that nothing reads any more.

    Rules leave them: of a device, say, or of what was a parameter for its dtype alone.

    Args:
        text: of the function, whose first line is not indented.
        column: where the definition begins in its file.
    """
    lines = text.split("\n")
    start = f"if True:\n{' ' * column}" if column else "\n"
    nodes = list(ast.walk(ast.parse(start + text.replace(MARK, "marked_"))))
    read = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)}
    bodies = [getattr(n, name, []) for n in nodes for name in ("body", "orelse")]
    alone = {id(body[0]) for body in bodies if isinstance(body, list) and len(body) == 1}
    gone: set[int] = set()
    for node in nodes:
        if not isinstance(node, ast.Assign) or len(node.targets) > 1 or id(node) in alone:
            continue
        target = node.targets[0]
        calls = any(map(_may_do_something, ast.walk(node.value)))
        if isinstance(target, ast.Name) and target.id not in read and not calls:
            gone |= set(range(node.lineno - 2, (node.end_lineno or node.lineno) - 1))
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            unread = [t for t in target.elts if isinstance(t, ast.Name) and t.id not in read]
            for one in unread:
                row = one.lineno - 2
                lines[row] = re.sub(rf"\b{one.id}\b(?=.*=)", "_", lines[row], count=1)
    return "\n".join(line for number, line in enumerate(lines) if number not in gone)


def _may_do_something(node: ast.AST) -> bool:
    """Whether a node is a call that may do more than compute a number."""
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Await | ast.NamedExpr)
    return not re.match(r"(math\.\w+|int|float|abs|max|min|round|len)\(", ast.unparse(node))
