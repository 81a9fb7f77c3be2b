// One of a few, side by side.

interface SegmentsProps<Value extends string> {
  /** What is chosen, for who cannot see it. */
  label: string;
  name: string;
  titles: Readonly<Record<Value, string>>;
  value: Value;
  disabled?: boolean;
  onChange(value: Value): void;
}

export function Segments<Value extends string>(props: SegmentsProps<Value>) {
  const values = Object.keys(props.titles) as Value[];
  return (
    <div class="segments" role="radiogroup" aria-label={props.label}>
      {values.map((value) => (
        <label key={value} class={props.value === value ? "on" : ""}>
          <input
            type="radio"
            name={props.name}
            value={value}
            checked={props.value === value}
            disabled={props.disabled}
            onChange={() => props.onChange(value)}
          />
          {props.titles[value]}
        </label>
      ))}
    </div>
  );
}
