"""Talk with tools: get_weather(city, unit) and calculator(expression), in one or several turns."""
import json

from tasks import CITIES, NAMES, odd_word
from wording import expand, fill

WEATHER_TEXT = ["The weather of a city", "Get the weather", "Current weather in a city",
    "Look up the weather of a city", "Get the current weather for a city"]
CALCULATOR_TEXT = ["Compute an expression", "Evaluate an arithmetic expression", "A calculator",
    "Calculate the value of an expression"]


def declared(name, description, properties):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": list(properties)}}}


def weather_tool(rng):
    return declared("get_weather", rng.choice(WEATHER_TEXT), {
        "city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}})


def calculator_tool(rng):
    return declared("calculator", rng.choice(CALCULATOR_TEXT), {"expression": {"type": "string"}})


ONE_CITY = [
    "[What is|What's|How is|How's] the weather [like |][in|at] {c}[ today| now| right now| at the moment|]?",
    "[What is|What's] it like [outside |]in {c}[ today| now|]?",
    "[Tell me|Give me|Show me|I need|I'd like to know] the weather [in|for|of] {c}[.|, please.]",
            "[How warm|How cold|How hot] is it in {c}[ today| now|]?",
            "What [is the temperature|temperature is it] in {c}[ now|]?",
            "Is it [raining|sunny|cold|warm|hot|snowing] in {c}[ today| now|]?", "Weather in {c}[?|, please.|]",
            "[Do|Will] I need [an umbrella|a coat|a jacket] in {c}?",
            "[Check|Look up|Find out] the weather [in|for] {c}[.|, please.]",
            "I am travelling to {c}. [How is|What is] the weather[ there|]?",
            "[Can|Could] you [check|tell me] the weather in {c}?", "Wie ist das Wetter in {c}?",
            "Wie warm ist es in {c}?", "Quel temps fait-il à {c} ?",
            "¿Qué tiempo hace en {c}?", "{n} lives in {c}. What is the weather there?"]
UNIT = [" In Fahrenheit[.|, please.]", " Use Fahrenheit.", " Please answer in Fahrenheit.", " I want Fahrenheit.",
    " (in Fahrenheit)", " In degrees Fahrenheit."]
UNIT_C = [" In Celsius[.|, please.]", " Use Celsius.", " Please answer in Celsius.", " In degrees Celsius."]
MORE_CITIES = ["[What is|What's|How is] the weather [like |]in {c}[ today| now|]?",
    "[Tell me|Give me|I need|Compare|Check|Look up] the weather [in|of|for] {c}[.|, please.]",
    "How [warm|cold] is it in {c}?", "Weather in {c}[?|, please.]", "Is it warmer in {o}?",
    "Wie ist das Wetter in {c}?",
               "What is the temperature in {c}?", "I want to know the weather in {c}."]

OPERATORS = {"+": ["{a} + {b}", "{a} plus {b}", "{a} and {b} added", "the sum of {a} and {b}"],
    "-": ["{a} - {b}", "{a} minus {b}", "the difference between {a} and {b}"],
             "*": ["{a} * {b}", "{a} times {b}", "{a} multiplied by {b}", "the product of {a} and {b}",
                 "{a} x {b}"], "/": ["{a} / {b}", "{a} divided by {b}"]}
CALCULATE = ["What is {x}?", "What's {x}?", "How much is {x}?",
    "[Calculate|Compute|Work out|Evaluate] {x}[.|, please.]", "[Tell me|Give me|I need] {x}.",
    "Use the calculator: {x}", "[Can|Could] you [calculate|compute|work out] {x}?", "{x} = ?",
    "Please calculate {x}.", "Was ist {x}?", "What is the result of {x}?", "What does {x} make?",
    "What do I get for {x}?"]

CONDITIONS = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear", "stormy"]


def call(name, arguments, index):
    return {"id": f"functions.{name}:{index}", "type": "function",
        "function": {"name": name, "arguments": arguments}}


def some_cities(rng, n):
    out = []
    while len(out) < n:
        c = rng.choice(CITIES) if rng.random() < 0.8 else odd_word(rng).capitalize()
        if c not in out:
            out.append(c)
    return out


def weather(rng, index):
    n = rng.choices([1, 2, 3], [6, 3, 1])[0]
    cities = some_cities(rng, n)
    unit = "fahrenheit" if rng.random() < 0.3 else "celsius"
    if n == 1:
        text = fill(rng, rng.choice(ONE_CITY), c=cities[0], n=rng.choice(NAMES))
    else:
        last = rng.choice([" and ", " and ", " and in ", " and also ", ", and in ", " as well as ",
            " and then in "]) if n == 2 else rng.choice([" and ", ", "])
        joined = ", ".join(cities[:-1]) + last + cities[-1]
        text = fill(rng, rng.choice(MORE_CITIES), c=joined, o=" or ".join(cities) if n == 2 else joined)
    if unit == "fahrenheit":
        text += expand(rng, rng.choice(UNIT)).join([" ", ""]) if rng.random() < 0.8 else ""
        if "ahrenheit" not in text:
            text = text.rstrip(".?") + " in Fahrenheit" + rng.choice(["?", ".", ""])
    elif rng.random() < 0.15:
        text += " " + expand(rng, rng.choice(UNIT_C))
    messages = [{"role": "user", "content": text},
                {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": c, "unit": unit},
                    index + i) for i, c in enumerate(cities)]}]
    if rng.random() < 0.5:
        said = []
        for i, c in enumerate(cities):
            degrees, condition = (rng.randint(-10, 38) if unit == "celsius" else rng.randint(15,
                100)), rng.choice(CONDITIONS)
            result = {"temperature": degrees, "unit": unit, "condition": condition}
            if rng.random() < 0.4:
                result = {"city": c, **result}
            if rng.random() < 0.3:
                items = list(result.items())
                rng.shuffle(items)
                result = dict(items)
            messages.append({"role": "tool", "tool_call_id": f"functions.get_weather:{index + i}",
                "content": json.dumps(result, ensure_ascii=False)})
            said.append(f"It is {degrees} °{'C' if unit == 'celsius' else 'F'} and {condition} in {c}.")
        messages.append({"role": "assistant", "content": " ".join(said)})
    return messages, n


def calculate(rng, index):
    op = rng.choice("++--**/")
    a, b = rng.choice([rng.randint(1, 99), rng.randint(10, 999),
        rng.randint(100, 9999)]), rng.choice([rng.randint(1, 99), rng.randint(10, 999)])
    if op == "/":
        a = a * b if a * b < 100000 else b * rng.randint(1, 60)
    if rng.random() < 0.12:
        c = rng.randint(2, 99)
        expression = rng.choice([f"({a} {op} {b}) * {c}", f"{a} {op} {b} + {c}", f"{c} * ({a} + {b})",
            f"{a} + {b} - {c}"])
        text = fill(rng, rng.choice(CALCULATE), x=expression)
        value = eval(expression)  # of digits and operators made above
    else:
        expression = f"{a} {op} {b}"
        text = fill(rng, rng.choice(CALCULATE), x=fill(rng, rng.choice(OPERATORS[op]), a=a, b=b))
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[op]
    if isinstance(value, float):
        value = int(value) if value == int(value) else round(value, 2)
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "",
        "tool_calls": [call("calculator", {"expression": expression}, index)]}]
    if rng.random() < 0.5:
        content = rng.choice([str(value), json.dumps({"result": value}), json.dumps({"value": value})])
        messages += [{"role": "tool", "tool_call_id": f"functions.calculator:{index}", "content": content},
            {"role": "assistant", "content": f"{expression} = {value}."}]
    return messages, 1


NO_WEATHER = "I cannot look up the weather without a tool."


def sample(rng, small_talk):
    """-> messages, tools"""
    both = rng.random()
    tools = [weather_tool(rng), calculator_tool(rng)]
    rng.shuffle(tools)
    if both > 0.6:
        tools = tools[:1]
    names = [t["function"]["name"] for t in tools]
    messages, index = [], 0
    for _ in range(rng.choice([1, 1, 1, 2])):
        pick = rng.random()
        if pick < 0.15:
            q, a = small_talk(rng)
            part, n = [{"role": "user", "content": q}, {"role": "assistant", "content": a}], 0
        elif pick < 0.65:
            part, n = weather(rng, index) if "get_weather" in names else calculate(rng, index)
        else:
            part, n = calculate(rng, index) if "calculator" in names else weather(rng, index)
        messages += part
        index += n
        if part[-1].get("tool_calls"):
            break
    return messages, tools


def no_tool(rng):
    text = fill(rng, rng.choice(ONE_CITY[:-1]), c=some_cities(rng, 1)[0])
    return text, NO_WEATHER
