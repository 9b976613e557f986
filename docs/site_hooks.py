"""What mkdocs.yml cannot say."""

import posixpath
import re

from mkdocs.exceptions import PluginError


def on_page_content(html: str, page, files, **kwargs) -> str:
    """Drop the roles of docstrings, which Markdown shows as text; notebooks link to pages."""
    if page.file.src_uri.endswith('.ipynb'):
        html = _link_pages(html, page.file, files)
    return re.sub(r':(?:class|meth|func|attr|data|mod):(?=<code>)', '', html)


def _link_pages(html: str, notebook, files) -> str:
    """mkdocs does so for Markdown only: a link to a file becomes one to the page made of it."""

    def link(match: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(notebook.src_uri), match[1]))
        target = files.get_file_from_path(path)
        if target is None:
            raise PluginError(f'{notebook.src_uri} has a link to {match[1]}, which is not there')
        return f'href="{target.url_relative_to(notebook)}{match[2]}"'

    return re.sub(r'href="(?!#|[a-z]+:)([^"#]+)(#[^"]*|)"', link, html)
