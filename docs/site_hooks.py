"""What mkdocs.yml cannot say."""

import re


def on_page_content(html: str, **kwargs) -> str:
    """Drop the roles of docstrings, as in :class:`BimmViT`, which Markdown shows as text."""
    return re.sub(r':(?:class|meth|func|attr|data|mod):(?=<code>)', '', html)
