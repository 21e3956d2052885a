"""Kernels of :mod:`.queues` and :mod:`.balancing`, for either engine (:mod:`.engines`)."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

RANDOM, ROUND_ROBIN, TWO_CHOICES, LEAST_CONNECTIONS = range(4)


def first_come(arrivals, service, free, start):
    """Fill ``start``. ``free``: when each server is free, as a binary heap; zeros at first."""
    for index in range(arrivals.size):
        begin = max(arrivals[index], free[0])
        start[index] = begin
        value = begin + service[index]
        hole = 0
        child = 1
        while child < free.size:
            if child + 1 < free.size and free[child + 1] < free[child]:
                child += 1
            if free[child] >= value:
                break
            free[hole] = free[child]
            hole = child
            child = 2 * hole + 1
        free[hole] = value


def with_retries(arrivals, service, free, timeout, pause, cancel, attempts, finished):
    """Fill ``attempts`` and ``finished`` (NaN: given up); return the seconds of work that the servers did.

    ``pause[i, k]``: seconds between the k-th time-out of request i and its next attempt. Attempts are served in the
    order in which they come, so what becomes of one is known as soon as it comes.
    """
    work = 0.0
    later = [(0.0, 0, 0)]
    heappop(later)
    coming, sent = 0, 0
    while coming < arrivals.size or len(later) > 0:
        if len(later) == 0 or (coming < arrivals.size and arrivals[coming] <= later[0][0]):
            now, request = arrivals[coming], coming
            coming += 1
        else:
            now, _, request = heappop(later)
        attempts[request] += 1
        place = 0
        for server in range(1, free.size):
            if free[server] < free[place]:
                place = server
        begin = max(now, free[place])
        end = begin + service[request]
        deadline = now + timeout
        if end <= deadline:
            finished[request] = end
            work += service[request]
            free[place] = end
            continue
        if not cancel:
            work += service[request]
            free[place] = end
        elif begin < deadline:
            work += deadline - begin
            free[place] = deadline
        tried = attempts[request]
        if tried <= pause.shape[1]:
            sent += 1
            heappush(later, (deadline + pause[request, tried - 1], sent, request))
    return work


def balanced(arrivals, service, speed, policy, draw, server, start):
    """Fill ``server`` and ``start``. ``draw``: two uniform numbers a request. Each server has a queue of its own."""
    servers = speed.size
    departure = np.empty(arrivals.size)
    following = np.full(arrivals.size, -1, np.int64)
    head = np.full(servers, -1, np.int64)
    tail = np.full(servers, -1, np.int64)
    present = np.zeros(servers, np.int64)
    free = np.zeros(servers)
    for index in range(arrivals.size):
        now = arrivals[index]
        one = min(int(draw[index, 0] * servers), servers - 1)
        if policy == ROUND_ROBIN:
            one = index % servers
        elif policy == TWO_CHOICES and servers > 1:
            other = min(int(draw[index, 1] * (servers - 1)), servers - 2)
            other += int(other >= one)
            for candidate in (one, other):
                while head[candidate] >= 0 and departure[head[candidate]] <= now:
                    head[candidate] = following[head[candidate]]
                    present[candidate] -= 1
            if present[other] < present[one]:
                one = other
        elif policy == LEAST_CONNECTIONS:
            least, equal = arrivals.size + 1, 0
            for candidate in range(servers):
                while head[candidate] >= 0 and departure[head[candidate]] <= now:
                    head[candidate] = following[head[candidate]]
                    present[candidate] -= 1
                if present[candidate] < least:
                    least, equal = present[candidate], 0
                equal += int(present[candidate] == least)
            skip = min(int(draw[index, 0] * equal), equal - 1)
            one = 0
            while present[one] > least or skip > 0:
                skip -= int(present[one] == least)
                one += 1
        begin = max(now, free[one])
        free[one] = begin + service[index] / speed[one]
        server[index], start[index], departure[index] = one, begin, free[one]
        if head[one] < 0:
            head[one] = index
        else:
            following[tail[one]] = index
        tail[one] = index
        present[one] += 1
