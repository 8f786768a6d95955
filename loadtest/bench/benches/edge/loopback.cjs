// Loaded by Node before a gateway that listens on every address, and has no setting for it: a server that is given only
// a port listens on loopback.
const { Server } = require("net");

const { listen } = Server.prototype;
Server.prototype.listen = function (port, ...rest) {
  if (typeof port !== "number") return listen.call(this, port, ...rest);
  return listen.call(this, port, "127.0.0.1", ...rest.filter((argument) => typeof argument === "function"));
};
