"""Amazon SNS's semantics: topics, subscriptions, publishing, FIFO topics and their archive, telephones."""

from broker.topics.envelope import Unsigned
from broker.topics.messages import Publishing
from broker.topics.publishing import Published
from broker.topics.service import Notifications
from broker.topics.subscriptions import Subscriber, listed
from broker.topics.topic import Subscription, Topic

__all__ = ["Notifications", "Published", "Publishing", "Subscriber", "Subscription", "Topic", "Unsigned", "listed"]
