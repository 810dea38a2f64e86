"""``ordergate demo``: a shop's storm through a gateway that is killed in the middle, and a verdict.

The rooms: ``intents`` (what customers mean to order), ``faults`` and ``books`` (how the backend
misbehaves, and what it truly holds), ``backend`` (its server), ``customer`` and ``storefront``
(the traffic), ``answers`` (what a customer may conclude from an answer), ``journal`` (what was
asked and told), ``oracle`` (the judgement), ``gateway_process``, ``metrics``, ``view``, ``report``
and ``run``. The oracle is shared with the tests.
"""
