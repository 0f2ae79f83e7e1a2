// node's smtp-server on a loopback port of the system's choice; it discards what it receives.
// A PEM file as the last argument: TLS from the beginning.
"use strict";
const fs = require("fs");
const { SMTPServer } = require("smtp-server");

const pem = process.argv[3] && fs.readFileSync(process.argv[3]);
const server = new SMTPServer({
    ...(pem && { secure: true, key: pem, cert: pem }),
    authOptional: true,
    disabledCommands: ["AUTH", "STARTTLS"],
    disableReverseLookup: true,
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", callback);
    },
});
server.listen(0, "127.0.0.1");
