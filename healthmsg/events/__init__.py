from healthmsg.events.base import ChatEvent, Event
from healthmsg.events.kinds import *
