"""The catalogue: every reply that smtplite gives by itself. Nobody else formats one.

Knows codes and words (RFC 5321 4.2, RFC 3463, RFC 5248). A constant is a ready value, its octets made once; a function makes one with a name in it.
"""

from __future__ import annotations

from .reply import Reply

# Positive.
OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
MESSAGE_OK = Reply(250, "2.0.0", "Message accepted")
START_DATA = Reply(354, None, "Send the message, end it with <CRLF>.<CRLF>")
GOODBYE = Reply(221, "2.0.0", "Goodbye", closes=True)
CANNOT_VERIFY = Reply(252, "2.5.0", "Cannot verify the address, but mail for it will be tried")

# Commands: syntax and order.
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
BAD_CHARACTERS = Reply(501, "5.5.2", "Commands are printable text: a control character or bad UTF-8 was found")
LINE_TOO_LONG = Reply(500, "5.5.2", "Command line too long")
NO_ARGUMENT_ALLOWED = Reply(501, "5.5.4", "This command takes no argument")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
HELO_FIRST = Reply(503, "5.5.1", "Send EHLO or HELO first")
NESTED_MAIL = Reply(503, "5.5.1", "A transaction is open already: RSET ends it")
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
EXPN_DISABLED = Reply(502, "5.5.1", "EXPN is not available")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
NO_HELP = Reply(504, "5.5.4", "There is no help on that")
VRFY_NEEDS_ARGUMENT = Reply(501, "5.5.4", "An address or a name is needed")
BAD_HELO = Reply(501, None, "A domain name or an address literal is needed")

# The message in chunks (RFC 3030).
CHUNK_OK = Reply(250, "2.0.0", "Chunk accepted")
BDAT_SYNTAX = Reply(501, "5.5.4", "Syntax: BDAT size [LAST]; what follows cannot be told from commands", closes=True)
CHUNKS_OPEN = Reply(503, "5.5.1", "A message in chunks is open: BDAT goes on, RSET ends it")
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "BODY=BINARYMIME is sent by BDAT")

# TLS and AUTH.
READY_FOR_TLS = Reply(220, "2.0.0", "Go ahead with TLS")
TLS_UNAVAILABLE = Reply(502, "5.5.1", "TLS is not available")
TLS_ALREADY = Reply(503, "5.5.1", "The session is encrypted already")
TLS_PIPELINED = Reply(554, "5.5.0", "Nothing may follow STARTTLS before the handshake", closes=True)
HANDSHAKE_TIMEOUT = Reply(421, "4.4.2", "Timeout in the TLS handshake")
TLS_FIRST = Reply(530, "5.7.0", "Send STARTTLS first")
AUTH_FIRST = Reply(530, "5.7.0", "Authentication required")
NOT_IN_TRANSACTION = Reply(503, "5.5.1", "Not while a transaction is open")
AUTH_SYNTAX = Reply(501, "5.5.4", "Syntax: AUTH mechanism [response]")
AUTH_UNAVAILABLE = Reply(502, "5.5.1", "Authentication is not available")
AUTH_ALREADY = Reply(503, "5.5.1", "You have authenticated already")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "That mechanism is not offered here")
BAD_BASE64 = Reply(501, "5.5.2", "Bad base64")
INITIAL_RESPONSE_UNEXPECTED = Reply(501, "5.7.0", "This mechanism takes no initial response")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication response too long")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication succeeded")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
TOO_MANY_FAILED_LOGINS = Reply(421, "4.7.0", "Too many failed logins, try again later", closes=True)
AUTH_TEMPORARY = Reply(454, "4.7.0", "Temporary authentication failure")

# For trusted proxies.
NOT_TRUSTED = Reply(550, "5.7.0", "You are not trusted to speak for others")
XCLIENT_SYNTAX = Reply(501, "5.5.4", "Syntax: XCLIENT attribute=value ...")
XFORWARD_SYNTAX = Reply(501, "5.5.4", "Syntax: XFORWARD attribute=value ...")

# One reply for each recipient.
NO_RECIPIENTS_LMTP = Reply(503, "5.5.1", "No valid recipients")
PRDR_BEGINS = Reply(353, None, "A reply for each recipient follows")

# Addresses and parameters.
MAIL_SYNTAX = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")
SENDER_TOO_LONG = Reply(501, "5.1.7", "Sender address too long")
RECIPIENT_TOO_LONG = Reply(501, "5.1.3", "Recipient address too long")
NULL_RECIPIENT = Reply(501, "5.1.3", "The null path cannot receive mail")
# RFC 6531 3.5: an address that needs SMTPUTF8 which was not asked for.
SENDER_NEEDS_UTF8 = Reply(550, "5.6.7", "A non-ASCII sender needs SMTPUTF8")
RECIPIENT_NEEDS_UTF8 = Reply(553, "5.6.7", "A non-ASCII recipient needs SMTPUTF8")

# Limits.
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients: send the rest in another transaction")
TOO_LARGE_DECLARED = Reply(552, "5.3.4", "Message size exceeds the limit")
TOO_LARGE = Reply(552, "5.3.4", "Message exceeds the size limit")
TEXT_LINE_TOO_LONG = Reply(554, "5.6.0", "A line of the message exceeds the limit")
BARE_LINE_END = Reply(550, "5.6.0", "Bare CR or LF in the message: lines end in CRLF")
NUL_IN_TEXT = Reply(550, "5.6.0", "NUL in the message")
MAIL_LOOP = Reply(554, "5.4.6", "Too many hops: the message is looping")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors", closes=True)
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands in one session", closes=True)
TOO_MANY_TRANSACTIONS = Reply(421, "4.7.0", "Too many transactions in one session", closes=True)
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections, try again later", closes=True)
TOO_MANY_FROM_ADDRESS = Reply(421, "4.7.0", "Too many connections from your address", closes=True)
TIMEOUT = Reply(421, "4.4.2", "Timeout, closing the connection", closes=True)
TOO_SLOW = Reply(421, "4.4.2", "Data arrives too slowly, closing the connection", closes=True)
SESSION_TOO_LONG = Reply(421, "4.4.2", "Session has lasted too long, closing the connection", closes=True)
SHUTDOWN = Reply(421, "4.3.2", "Service shutting down, closing the connection", closes=True)
NOT_SMTP = Reply(421, "4.7.0", "This is an SMTP server", closes=True)

# Policies.
NETWORK_REFUSED = Reply(554, "5.7.1", "Your address may not send mail here")
EARLY_TALKER = Reply(554, "5.5.0", "You spoke before the greeting")
SENDER_REFUSED = Reply(550, "5.7.1", "This sender is not accepted")
SENDER_NOT_YOURS = Reply(550, "5.7.1", "You may not send mail as this sender")
RECIPIENT_REFUSED = Reply(550, "5.7.1", "This recipient is not accepted")
RATE_OF_CONNECTIONS = Reply(421, "4.7.0", "Too many connections in a short time, try again later", closes=True)
RATE_OF_MESSAGES = Reply(452, "4.7.0", "Too many messages in a short time, try again later")
RATE_OF_RECIPIENTS = Reply(452, "4.7.0", "Too many recipients in a short time, try again later")

# The relay.
RELAYING_DENIED = Reply(550, "5.7.1", "Relaying is for users who have authenticated")

# Submission (RFC 6409 4.2).
SENDER_UNQUALIFIED = Reply(554, "5.1.8", "The domain of the sender must be fully qualified")
RECIPIENT_UNQUALIFIED = Reply(554, "5.1.2", "The domain of the recipient must be fully qualified")

# The delivery.
LOCAL_ERROR = Reply(451, "4.3.0", "Local error in processing, try again later")
BACKEND_TIMEOUT = Reply(451, "4.3.0", "No answer from the delivery in time, try again later")


def greeting(hostname: str) -> Reply:
    """The 220 that opens a session (RFC 5321 4.2: the name is its first word)."""
    return Reply(220, None, f"{hostname} ESMTP twisted-smtplite")


def inPlaceOfGreeting(refusal: Reply) -> Reply:
    """The refusal of a whole session (RFC 5321 4.3.2: what can be said first is 220, 421 or 554)."""
    return refusal if refusal.code == 421 else Reply(421 if refusal.code < 500 else 554, refusal.enhanced, refusal.text, closes=True)


def accepted(queueId: str) -> Reply:
    """The message is safe, and known as `queueId`."""
    return Reply(250, "2.0.0", f"Message accepted as {queueId}")


def unknownParameter(keyword: str) -> Reply:
    """RFC 5321 4.1.1.11: a MAIL or RCPT parameter that no extension here owns."""
    return Reply(555, "5.5.4", f"Parameter {keyword} is not supported")


def unqualifiedIn(field: str) -> Reply:
    """RFC 6409 4.2: an address in the header field `field` has an incomplete domain. It is the content that is wrong (RFC 3463 3.7)."""
    return Reply(554, "5.6.0", f"The domain of each address in {field} must be fully qualified")


def badParameter(keyword: str) -> Reply:
    """A parameter whose value is malformed."""
    return Reply(501, "5.5.4", f"Bad value for parameter {keyword}")


def repeatedParameter(keyword: str) -> Reply:
    """A parameter that stands twice."""
    return Reply(501, "5.5.4", f"Parameter {keyword} is given twice")
