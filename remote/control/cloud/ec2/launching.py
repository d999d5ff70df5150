"""Making an instance: the offers of a box tried in turn, each attempt told and remembered, nothing
left behind by those that fail."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from remote.control.cloud import history
from remote.control.cloud.access import waiting
from remote.control.cloud.account import identity, quotas, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2 import attempts, cleanup, request, transitions
from remote.control.cloud.ec2.attempts import Attempt
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.ec2.offers import Offer, offers_of
from remote.control.cloud.phases import Phases
from remote.control.cloud.provider import Progress
from remote.control.errors import CloudError
from remote.control.retry import retry_without_capacity

_GENERATIONS = 50
_RACES = 3
_TAKEN_AWAY = ("InvalidKeyPair.NotFound", "InvalidGroup.NotFound")


@dataclass(frozen=True)
class Launch:
    """One launch of a box. `generation` counts its earlier instances; `look` finds the box by its
    tags."""

    entry: Any
    home: Endpoint
    generation: int
    look: Callable[[], Instance | None]
    phases: Phases
    on_progress: Progress

    def run(self, wait_seconds: float = 0.0) -> Instance:
        """A running instance by the first offer that gives one; without capacity all are tried
        again for `wait_seconds`.

        Raises the error of the last attempt; one that names all of them where there were several.
        """
        offers = list(_in_order(self.entry))
        out = f"no offer of {self.entry.name} has capacity"
        poll = self.home.patience.poll
        return retry_without_capacity(
            lambda: self._walk(offers), out, self.on_progress, wait_seconds, poll
        )

    def _walk(self, offers: list[Offer]) -> Instance:
        tried: list[Attempt] = []
        for offer in offers:
            try:
                instance = self._take(offer)
            except CloudError as error:
                tried.append(self._note(attempts.of_error(offer, error)))
                if tried[-1].category not in attempts.MOVES_ON or offer == offers[-1]:
                    raise attempts.exhausted(self.entry.name, tried, error) from None
            else:
                self._note(Attempt(offer, "ok"))
                return instance
        raise AssertionError("an entry always has an offer")

    def _note(self, attempt: Attempt) -> Attempt:
        history.append(self.entry.name, "attempt", **attempt.facts())
        self.on_progress(f"{self.entry.name}: {attempt}")
        return attempt

    def _take(self, offer: Offer) -> Instance:
        """The instance that an offer gives, once it runs. What a failure leaves is taken away."""
        there = self.home.in_region(offer.region)
        context = refusals.Context(
            self.entry.name, there.region, offer.instance_type, there.regions, offer.zone or ""
        )
        instance = None
        try:
            with refusals.explained(context):
                with self.phases.phase("request"):
                    instance = self._ask(offer, there, context)
                with self.phases.phase("running"):
                    return transitions.until_running(instance, self.entry.name, self.on_progress)
        except CloudError as error:
            cleanup.after_attempt(self.entry.name, there, instance)
            quotas.spell(error, self.entry.name, offer.instance_type, offer.market, there)
            raise
        except KeyboardInterrupt:
            cleanup.after_attempt(self.entry.name, there)
            raise

    def _ask(self, offer: Offer, there: Endpoint, context: refusals.Context) -> Instance:
        asked = {
            "offer": str(offer),
            "region": offer.region,
            "project": identity.project_mark(),
            "provider": self.entry.provider,
        }
        history.append(self.entry.name, "asking", generation=self.generation, **asked)
        self.on_progress(f"launching {self.entry.name}: {offer}")
        for generation in range(self.generation, self.generation + _GENERATIONS):
            token = identity.client_token(self.entry.name, generation, str(offer))
            instance = self._run(offer, there, context, token)
            if instance and not instance.is_gone:
                history.append(
                    self.entry.name, "launched", id=instance.id, zone=instance.zone, **asked
                )
                return instance
        raise CloudError(
            f"box {self.entry.name} was terminated as often as it was launched",
            remedy="look at it in the AWS console",
        )

    def _run(
        self, offer: Offer, there: Endpoint, context: refusals.Context, token: str
    ) -> Instance | None:
        """The instance behind the request's token; None when the token is used up and the next one
        is due."""
        from botocore.exceptions import ClientError

        try:
            return self._sent(offer, there, context, token)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "IdempotentInstanceTerminated":
                return None
            if code != "IdempotentParameterMismatch":
                raise
            # An earlier launch was cut off before its answer and the inventory changed since: its
            # instance is the box, once it shows.
            poll = there.patience.poll
            return waiting.until(
                self.look, "looking for an earlier launch", lambda line: None, 10 * poll, poll
            )

    def _sent(
        self, offer: Offer, there: Endpoint, context: refusals.Context, token: str
    ) -> Instance:
        """RunInstances, with all that it names made before; again where another box's end took it
        away in between. It may be repeated, here and by botocore, because of its token: AWS answers
        a second request with the first one's instance.
        """
        from botocore.exceptions import ClientError

        for is_last in (*[False] * _RACES, True):
            asked = request.prepare(self.entry, offer, there, context, self.on_progress)
            try:
                return Instance(
                    dict(
                        there.client("ec2").run_instances(**asked, ClientToken=token)["Instances"][
                            0
                        ]
                    ),
                    there,
                )
            except ClientError as error:
                if (
                    is_last
                    or self.entry.key_name
                    or error.response["Error"]["Code"] not in _TAKEN_AWAY
                ):
                    raise
        raise AssertionError("the last one returns or raises")


def _in_order(entry: Any) -> Iterator[Offer]:
    """The offers, first of all the one that a cut-off launch was asking for: its instance may not
    show by its tags yet."""
    offers = offers_of(entry)
    remembered = history.read(entry.name)
    unanswered = (
        remembered[-1].get("offer") if remembered and remembered[-1]["kind"] == "asking" else None
    )
    yield from sorted(offers, key=lambda offer: str(offer) != unanswered)
