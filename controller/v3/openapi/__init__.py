"""The OpenAPI document: what every operation takes and answers, said once and checked against what it really does.

``shapes`` is the language in which resources are described; ``tenancy``, ``applications``, ``services`` and
``platform`` describe them; ``answers`` says which operation answers with which; ``operations`` makes the document's
entries. Nothing here is asked while a request is served.
"""
