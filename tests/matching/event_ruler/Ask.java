// Asks aws/event-ruler. A line of JSON in, {"pattern": text, "events": [text, …]}, a line out: {"refusal": text} or
// {"answers": ["true" | "false" | "undecided" | "error", …], "complexity": number}. "undecided": its two finders differ.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import software.amazon.event.ruler.GenericMachine;
import software.amazon.event.ruler.JsonRuleCompiler;
import software.amazon.event.ruler.MachineComplexityEvaluator;

public class Ask {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(answer(JSON.readTree(line)));
        }
    }

    private static ObjectNode answer(JsonNode question) {
        ObjectNode answer = JSON.createObjectNode();
        String pattern = question.get("pattern").asText();
        try {
            GenericMachine<String> machine = machine(pattern, true);
            GenericMachine<String> older = machine(pattern, false);
            for (JsonNode event : question.get("events")) {
                answer.withArray("answers").add(match(machine, older, event.asText()));
            }
            answer.put("complexity", machine.evaluateComplexity(new MachineComplexityEvaluator(1000)));
        } catch (Exception refused) {
            String reason = JsonRuleCompiler.check(pattern);
            answer.put("refusal", reason == null ? refused.toString() : reason);
        }
        return answer;
    }

    private static GenericMachine<String> machine(String pattern, boolean structured) throws Exception {
        GenericMachine<String> machine = GenericMachine.<String>builder().withStructuredMatching(structured).build();
        machine.addRule("rule", pattern);
        return machine;
    }

    private static String match(GenericMachine<String> machine, GenericMachine<String> older, String event) {
        try {
            boolean matched = !machine.rulesForJSONEvent(event).isEmpty();
            return matched == older.rulesForJSONEvent(event).isEmpty() ? "undecided" : String.valueOf(matched);
        } catch (Exception noEvent) {
            return "error";
        }
    }
}
