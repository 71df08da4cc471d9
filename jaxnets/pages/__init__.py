"""What a report is made of: blocks, as Markdown and HTML, figures and words."""
