// Validates the messages in a file, a JSON array, with AWS's sns-validator; prints how many. The host is an argument.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [file, host, modules] = process.argv.slice(2);
const MessageValidator = createRequire(modules)("sns-validator");
const validator = new MessageValidator(new RegExp(`^${host.replaceAll(".", "\\.")}$`));
const validate = (message) =>
  new Promise((resolve, reject) => validator.validate(message, (error) => (error ? reject(error) : resolve())));

const messages = JSON.parse(readFileSync(file, "utf8"));
for (const message of messages) {
  await validate(message);
  const forged = await validate({ ...message, Message: `${message.Message}!` }).then(() => true, () => false);
  if (forged) throw new Error("a forged message passed");
}
console.log(messages.length);
