"""Functions of source text."""

import ast
import io
import re
import tokenize

#: Marks a name of the user that is also the name of an imported library. The marks are private-use
#: characters, which Python does not allow in names, so they cannot occur in the user's code.
MARK = "\ue000"


#: Placeholder for an expression whose text differs between calls.
CLASH = "\ue001"
LIBRARIES = ("jax", "jnp", "nnx", "layers", "lax", "np", "functional", "F", "tensors")


def flat(text: str) -> str:
    """Joins a text to one line, without comments."""
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
    """Removes the comments directly above a removed statement from the text before it."""
    lines = text.split("\n")
    while len(lines) > 1 and not lines[-1].strip() and len(lines) > 1:
        lines.pop()
        while lines and lines[-1].lstrip().startswith("#"):
            lines.pop()
        break
    return "\n".join(lines).rstrip(" ")


def same_tokens(one: str, other: str) -> bool:
    """Whether two texts differ only in white space and trailing commas."""

    def tokens(text: str) -> str:
        return re.sub(r",(?=[)\]}])", "", re.sub(r"\s+", "", flat(text)))

    return tokens(one) == tokens(other)


def closing(text: str, start: int) -> int:
    """Returns the index after the parenthesis that closes the one at ``start``."""
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
    """Adds an argument to a text that ends with arguments in parentheses."""
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
    """Removes assignments to unused variables from a function.

    Rewriting leaves unused variables, such as a device or a parameter that was used for its dtype.

    Args:
        text: the text of the function, whose first line is not indented.
        column: the indentation of the function in its file.
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
    """Whether a node is a call that may have side effects."""
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Await | ast.NamedExpr)
    return not re.match(r"(math\.\w+|int|float|abs|max|min|round|len)\(", ast.unparse(node))
