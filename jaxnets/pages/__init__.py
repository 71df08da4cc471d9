"""Report pages: blocks of content, and their output as Markdown and HTML."""
