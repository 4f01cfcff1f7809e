"""Evaluations and audits as a person or a program reads them: text, tables, Markdown, HTML."""
