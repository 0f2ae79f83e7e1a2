// node's smtp-server on a loopback port of the system's choice; it discards what it receives.
"use strict";
const { SMTPServer } = require("smtp-server");

const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["AUTH", "STARTTLS"],
    disableReverseLookup: true,
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", callback);
    },
});
server.listen(0, "127.0.0.1");
