"""Making an instance: the offers of a box tried in turn, each attempt told and remembered, nothing
left behind by those that fail."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remote.control.cloud.access import waiting
from remote.control.cloud.account import quotas, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2 import attempts, cleanup, request, transitions
from remote.control.cloud.ec2.attempts import Attempt
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.ec2.offers import Offer, offers_of
from remote.control.cloud.phases import Phases
from remote.control.cloud.provider import Progress
from remote.control.errors import CloudError
from remote.control.project import history, identity
from remote.control.retry import CapacityWait

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

_GENERATIONS = 50
_RACES = 3
_TAKEN_AWAY = ("InvalidKeyPair.NotFound", "InvalidGroup.NotFound")


@dataclass(frozen=True)
class Launch:
    """One launch of a box. `generation` counts its earlier instances; `look` finds the box by its
    tags."""

    entry: "CloudEntry"
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
        offers = _in_order(self.entry)
        wait = CapacityWait(
            f"no offer of {self.entry.name} has capacity",
            self.on_progress,
            wait_seconds,
            self.home.patience.poll,
        )
        while True:
            tried: list[Attempt] = []
            for offer in offers:
                try:
                    instance = self._take(offer)
                except CloudError as error:
                    last = error
                    tried.append(self._note(attempts.of_error(offer, error)))
                    if tried[-1].category not in attempts.MOVES_ON:
                        break
                else:
                    self._note(Attempt(offer, "ok"))
                    return instance
            wait.pause_or_raise(attempts.exhausted(self.entry.name, tried, last))

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
                    instance = self._request(offer, there, context)
                with self.phases.phase("running"):
                    return transitions.until_running(instance, self.entry.name, self.on_progress)
        except CloudError as error:
            cleanup.after_attempt(self.entry.name, there, instance)
            quotas.spell(error, self.entry.name, offer.instance_type, offer.market, there)
            raise
        except KeyboardInterrupt:
            cleanup.after_attempt(self.entry.name, there)
            raise

    def _request(self, offer: Offer, there: Endpoint, context: refusals.Context) -> Instance:
        """RunInstances, with all that it names made before; again where another box's end took that
        away in between, and with the next token where an earlier life of the box used one up.

        It may be repeated, here and by botocore, because of its token: AWS answers a second request
        with the first one's instance.
        """
        from botocore.exceptions import ClientError

        asked = {
            "offer": str(offer),
            "region": offer.region,
            "project": identity.project_mark(),
            "provider": self.entry.provider,
        }
        history.append(self.entry.name, "asking", generation=self.generation, **asked)
        self.on_progress(f"launching {self.entry.name}: {offer}")
        generation, races = self.generation, 0
        while generation < self.generation + _GENERATIONS:
            wanted = request.prepare(self.entry, offer, there, context, self.on_progress)
            token = identity.client_token(self.entry.name, generation, str(offer))
            instance: Instance | None = None
            try:
                made = there.client("ec2").run_instances(**wanted, ClientToken=token)
                instance = Instance(dict(made["Instances"][0]), there)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _TAKEN_AWAY and races < _RACES and not self.entry.key_name:
                    races += 1
                    continue
                if code == "IdempotentParameterMismatch":
                    instance = self._earlier(there)
                elif code != "IdempotentInstanceTerminated":
                    raise
            if instance and not instance.is_gone:
                history.append(
                    self.entry.name, "launched", id=instance.id, zone=instance.zone, **asked
                )
                return instance
            generation, races = generation + 1, 0
        raise CloudError(
            f"box {self.entry.name} was terminated as often as it was launched",
            remedy="look at it in the AWS console",
        )

    def _earlier(self, there: Endpoint) -> Instance | None:
        """The instance of a launch that was cut off before its answer, where the inventory changed
        since: it is the box, once it shows."""
        poll = there.patience.poll
        return waiting.until(
            self.look, "looking for an earlier launch", lambda line: None, 10 * poll, poll
        )


def _in_order(entry: "CloudEntry") -> list[Offer]:
    """The offers, first of all the one that a cut-off launch was asking for: its instance may not
    show by its tags yet."""
    offers = offers_of(entry)
    remembered = history.read(entry.name)
    unanswered = (
        remembered[-1].get("offer") if remembered and remembered[-1]["kind"] == "asking" else None
    )
    return sorted(offers, key=lambda offer: str(offer) != unanswered)
