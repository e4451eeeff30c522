"""The page of a server: a disc on which a person moves the mood of the model while it speaks.

What a browser is given lies in ``static``: HTML, CSS and JavaScript modules, as they are written.
"""
