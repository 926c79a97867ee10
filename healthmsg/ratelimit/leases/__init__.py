"""Slots on lease: several processes keep one limit together, and the way of a call asks no store.

The store keeps one *ledger* (`ledger.py`): how many slots each process holds, and those that are free. Each
process has a *holder* (`holder.py`), which reads the ledger, decides what follows for all, and writes it
back unless another was faster. So each that writes has decided by what is true at that moment, and the same
code is run by a model of many processes in fake time. What a process holds is in its *window* (`window.py`).

**No moment crosses machines, and the store's clock is never asked.** All that is written is numbers and
durations. A process counts its lease from before it wrote, less one per cent, by a clock that goes on while
the machine sleeps. Each time it writes, its *beat* goes up by one. Another process that has seen the same
beat, by its own such clock, for a lease, an interval and `arrival` (and one per cent) knows that the lease is
over and that all calls of it are out of the server's count: it takes the entry out and its slots are free.
That the store's clock was set cannot do any harm, since nothing depends on it.

**A process that dies is missed sooner.** Its session holds a lock that the store itself drops when the
connection ends. Who sees that the lock is gone waits an interval, `arrival` and a moment, without the lease.
So a process that sees its connection end stops until it knows which of two things happened: the store is
away, and then others cannot see anything either, or only the session ended, and then it writes at once.

That such a process hears of the end within 0.1 s is assumed. One that does not, and goes on, could use what
is left of its lease while others have its slots. When the network is cut, that does no harm: the store gives
a session up so late that the lease is over. It takes a session that is ended by hand or by a proxy, of a
process that stands still at that moment, or that is cut off then. To wait for the rest of the lease as well
would keep the slots of each process that dies for 2.4 s and not for 1.2.

**Slots are handed over while they rest.** A slot whose call was answered comes back at a moment that its
holder knows. What it owes to others it gives away with the seconds that are left to rest; the next one
counts them from when it learns of it. So nothing stands idle, and a saturated holder pays at once. Only what
is still under way is paid when it comes back, before the dispatcher sees it.

**What is not known counts as used.** A process that did not hear whether it had returned slots does not use
them, and reads later whether it did. Slots that the ledger has in its name and that it knows nothing of rest
for a lease, an interval and `arrival`. So do all free slots when the store was started again, since what it
had acknowledged last may be lost.
"""
