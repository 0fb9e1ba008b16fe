// Preloaded into Node servers that listen on all interfaces: here on 127.0.0.1. `node --require ./loopback.cjs SERVER`
"use strict";
const net = require("node:net");

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  const options = first !== null && typeof first === "object" ? first : { port: Number(first) };
  const ready = rest.filter((argument) => typeof argument === "function");
  return listen.call(this, { ...options, host: "127.0.0.1" }, ...ready);
};
