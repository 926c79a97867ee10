"""A limit of so many calls a second, as the server counts them. It knows no request and no HTTP.

**Why pacing alone does not do.** The server counts arrivals, not departures. 30 calls that leave evenly
spaced reach a server 20 ms away evenly spaced; jitter on the way pushes 31 of them into one second. A token
bucket is worse: full at the start, it lets twice the limit into the first second.

**Why slots that come back do not do alone.** 30 slots, of which each call holds one until a second after it
can have arrived, never let a 31st call into any second. But all 30 would leave at once, then none for a
second: every count of the server's that is no exact sliding second sees too many.

So a call needs both: a slot of the *window* (`window.py`) and the *spacing* since the call before
(aiolimiter's leaky bucket, with room for little more than one call). A slot comes back one second after the
latest moment at which its call can have arrived: its answer less most of the least round trip seen, and at
the latest `arrival` seconds after it was sent. To wait for the answer alone would fall to 8 calls a second
where answers take 3 seconds. After a 429 the rate *adapts* (`adaptive.py`): down by a fifth, up a little with
each good answer.

Those who wait stand in a *priority queue* (`queue.py`). One dispatcher in the *limiter* (`limiter.py`)
takes a slot, then the spacing, and only then picks the next waiter, so that an interactive call never
stands behind a bulk run that came first.

All of that is by the event loop's clock, which stands still while the machine sleeps: what was sent before
may still be on its way, so no slot comes back early by that. Only a pause that the service asks for also
counts the time in which the machine sleeps.
"""
