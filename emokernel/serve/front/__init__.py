"""What stands between the network and the routes: who may ask, how much, how often, in what words.

`guard` wraps an application in the checks of a request's head and body, `admission` and
`generating` let so many generate at a time, `refusals` and `handlers` say no in one shape.
"""
