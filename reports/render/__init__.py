"""What a person or a program reads of an evaluation and of an audit: text, tables, Markdown, HTML."""
