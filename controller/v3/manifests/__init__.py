"""Manifests (reference 3.4): many apps described in one YAML document, applied, compared, and written down again.

``document`` reads YAML, ``wishes`` what one application of it asks for; ``applying`` makes it so; ``current`` describes
an app as it is in the same words, and ``differences`` compares the two. Only ``endpoints`` knows HTTP.
"""
