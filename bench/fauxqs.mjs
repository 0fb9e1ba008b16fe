// Starts fauxqs through its documented `startFauxqs`, because its command logs every request even when told not to,
// and listens on all interfaces: here without a log, on 127.0.0.1. `node fauxqs.mjs DIR_OF_NODE_MODULES PORT`
import net from "node:net";
import { pathToFileURL } from "node:url";

const [directory, port] = process.argv.slice(2);
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  if (first !== null && typeof first === "object") first = { ...first, host: "127.0.0.1" };
  return listen.call(this, first, ...rest);
};
const { startFauxqs } = await import(pathToFileURL(`${directory}/fauxqs/dist/app.js`));
await startFauxqs({ port: Number(port), logger: false });
