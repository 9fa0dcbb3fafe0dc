"""The HTML page that the router's own answers wear: the subset of Go's html/template that error pages use.

    scanner.py    text and the words of actions
    syntax.py     what they mean: a tree; constants.py: its leaves
    places.py     where in a page an action stands; scripts.py and styles.py: where inside JavaScript and CSS
    escapers.py   what a value has to become to be harmless there
    values.py     values as Go has them, and how it prints them; functions.py: what can be done with them
    compiler.py   from the tree to closures, each action with the escapers of its place; expressions.py: its value
    template.py   a template as the router holds it: read, checked, rendered within bounds

Nothing in here knows of requests or sockets. A template is the operator's and may be wrong, never dangerous: what is
not supported is refused when it is read, and rendering is bounded in output, steps and depth. Values may come from
clients and are dangerous: none reaches a page but through the escapers.
"""
