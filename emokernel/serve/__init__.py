"""transformers' own server, with an emotion for each request.

`fields` reads what a body says about emotion, `middleware` takes it out of the body before
transformers, which refuses fields that it does not know, sees it, and `server` patches the model
and hands each request's emotion to what generates for it.
"""
